"""Pictures, textures and meshes of faces."""
