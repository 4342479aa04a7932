"""From coefficients to a face: the 3DMM, camera, crop, landmarks, parts, light."""
