"""What the doctor looks at: packages, devices, storage, assets."""
