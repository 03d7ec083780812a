//! The one error type of the library.
//!
//! Every kind says what was asked, what is possible, and what to do. Nothing in the library
//! panics on user input, a file's content, a lost device or a full disk: it ends up here.

use std::fmt;

/// The result of everything that may fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in words that say what to do about it. A pointer, so that a [`Result`] of something small stays small:
/// thousands of places pass one on.
#[derive(Clone)]
pub struct Error(Box<ErrorKind>);

/// What went wrong, to tell apart by [`Error::kind`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum ErrorKind {
    /// A shape or dtype does not fit an operation. Recorded while tracing, returned by `compile`.
    #[error("{op}: {message}\n  traced at {location}")]
    Trace { op: String, message: String, location: String },

    /// The graph asks for something that has no kernel under the device's limits.
    #[error("cannot compile {what}: {message}")]
    Compile { what: String, message: String },

    /// A kernel did not pass the driver's or naga's compiler.
    #[error("the kernel `{kernel}` was refused by the device's compiler (please report this): {message}")]
    Kernel { kernel: String, message: String },

    /// A step gave a loss or gradients that are not finite. What is trained is as it was before that step.
    #[error("{message}")]
    NotFinite { step: u64, message: String },

    /// There is no usable adapter.
    #[error("{0}")]
    NoAdapter(String),

    /// The device is gone: reset, unplugged, or destroyed. Nothing on it can be read any more; another one can be opened.
    #[error("the GPU device was lost: {message}")]
    DeviceLost { message: String },

    /// The device does not answer. What it works on is not waited for any longer.
    #[error("the GPU device has not answered for {seconds} seconds: {message}")]
    DeviceHung { seconds: u64, message: String },

    /// The device failed or refused work.
    #[error("the GPU device {what}: {message}")]
    Device { what: String, message: String },

    /// The program needs more memory than the budget, the device or a binding allows.
    #[error("out of memory: {0}")]
    Memory(String),

    /// A tensor was fed or read with another shape or dtype than declared, or an unknown name.
    #[error("{0}")]
    Feed(String),

    /// A configuration key, command line value or option that cannot be used.
    #[error("{0}")]
    Config(String),

    /// A file could not be read or written.
    #[error("{path}: {message}")]
    File { path: String, message: String },

    /// A file was read but its content is not what it claims to be.
    #[error("{path} is not a valid {format} file: {message}")]
    Format { path: String, format: &'static str, message: String },

    /// A checkpoint could not be written. Those before it are untouched.
    #[error("the checkpoint {path} was not written ({message}); the ones before it are untouched")]
    NotCommitted { path: String, message: String },

    /// A checkpoint is written and whole, but the system could not promise that it survives a power cut.
    #[error("the checkpoint {path} is written, but may not survive a power cut: {message}")]
    DurabilityUncertain { path: String, message: String },

    /// A file is what it claims to be, but asks for something that is not there.
    #[error("not supported: {0}")]
    Unsupported(String),

    /// An operation that has no gradient was differentiated.
    #[error("no gradient: {0}")]
    NoGradient(String),
}

/// A function that makes an error of each kind.
macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident($($field:ident: $type:ty),*) -> $kind:expr;)*) => {
        impl Error {
            $($(#[$doc])*
            #[cold]
            #[inline(never)]
            pub fn $name($($field: $type),*) -> Error {
                Error::new($kind)
            })*
        }
    };
}

constructors! {
    /// [`ErrorKind::Trace`].
    trace(op: String, message: String, location: String) -> ErrorKind::Trace { op, message, location };
    /// [`ErrorKind::Compile`].
    compile(what: String, message: String) -> ErrorKind::Compile { what, message };
    /// [`ErrorKind::Kernel`].
    kernel(kernel: String, message: String) -> ErrorKind::Kernel { kernel, message };
    /// [`ErrorKind::NotFinite`].
    not_finite(step: u64, message: String) -> ErrorKind::NotFinite { step, message };
    /// [`ErrorKind::NoAdapter`].
    no_adapter(message: String) -> ErrorKind::NoAdapter(message);
    /// [`ErrorKind::DeviceLost`].
    device_lost(message: String) -> ErrorKind::DeviceLost { message };
    /// [`ErrorKind::DeviceHung`].
    device_hung(seconds: u64, message: String) -> ErrorKind::DeviceHung { seconds, message };
    /// [`ErrorKind::Device`].
    device(what: String, message: String) -> ErrorKind::Device { what, message };
    /// [`ErrorKind::Memory`].
    memory(message: String) -> ErrorKind::Memory(message);
    /// [`ErrorKind::Feed`].
    feed(message: String) -> ErrorKind::Feed(message);
    /// [`ErrorKind::Config`].
    config(message: String) -> ErrorKind::Config(message);
    /// [`ErrorKind::File`], in words of our own.
    file_refused(path: String, message: String) -> ErrorKind::File { path, message };
    /// [`ErrorKind::Format`].
    format(path: String, format: &'static str, message: String) -> ErrorKind::Format { path, format, message };
    /// [`ErrorKind::NotCommitted`].
    not_committed(path: String, message: String) -> ErrorKind::NotCommitted { path, message };
    /// [`ErrorKind::DurabilityUncertain`].
    durability_uncertain(path: String, message: String) -> ErrorKind::DurabilityUncertain { path, message };
    /// [`ErrorKind::Unsupported`].
    unsupported(message: String) -> ErrorKind::Unsupported(message);
    /// [`ErrorKind::NoGradient`].
    no_gradient(message: String) -> ErrorKind::NoGradient(message);
}

impl Error {
    /// A file error with the operating system's own words.
    pub fn file(path: impl AsRef<std::path::Path>, source: &std::io::Error) -> Error {
        Error::file_refused(path.as_ref().display().to_string(), source.to_string())
    }

    /// The error of a kind; each kind has a function of its own too.
    pub fn new(kind: ErrorKind) -> Error {
        Error(Box::new(kind))
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// What went wrong, with its words.
    pub fn into_kind(self) -> ErrorKind {
        *self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {}
