"""From a face to pictures and meshes."""
