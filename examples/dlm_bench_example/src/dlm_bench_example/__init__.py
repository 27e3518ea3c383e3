"""A backbone and a sampler for dlm-bench, as a package of their own."""
