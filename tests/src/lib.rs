//! The lab of network namespaces, and the tests that need root and the kernel.
