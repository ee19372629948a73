"""The commands of qgen, one file each: ``add`` declares it, ``run`` does it."""
