//! YAML and JSON text to Kubernetes objects, with the place of everything that is wrong.
