//! ONNX models: the node suite of the `onnx` package, hostile files, and training an imported network.

mod cases;
mod device;
mod hostile;
mod suite;
mod train;
