"""Network architectures that a critic needs and no installed library has."""
