//! What every error of this crate has: a kind, and a chain of causes.

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

/// The message of any error with those of all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
