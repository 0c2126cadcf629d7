"""Camera geometry alone: camera models, remap tables between two cameras, mirror filling."""
