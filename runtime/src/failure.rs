//! What every error of this crate has: a kind, and a chain of causes.

pub use sandbox_vm_spec::failure::chain;

/// What kind of failure an error is, in the terms of gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller asked for something that can never be right.
    InvalidArgument,
    /// There is no such container, process or file.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// The thing exists and is not in a state in which this can be done.
    FailedPrecondition,
    /// Memory, disk or another bounded thing has run out.
    ResourceExhausted,
    /// It took too long.
    DeadlineExceeded,
    /// The sandbox has ended.
    Unavailable,
    /// Not built.
    Unimplemented,
    /// Everything else.
    Internal,
}
