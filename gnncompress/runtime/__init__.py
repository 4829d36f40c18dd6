"""Programs of whole numbers and the kernels that run them."""
