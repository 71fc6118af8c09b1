//! Failures, as containerd's clients test for them.

use sandbox_runtime::{Error, ErrorKind};
use tracing::info;
use ttrpc::Code;

use crate::options::OptionsError;

#[cfg(test)]
mod tests;

/// The status code of a kind of failure.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::INVALID_ARGUMENT,
        ErrorKind::NotFound => Code::NOT_FOUND,
        ErrorKind::AlreadyExists => Code::ALREADY_EXISTS,
        ErrorKind::FailedPrecondition => Code::FAILED_PRECONDITION,
        ErrorKind::ResourceExhausted => Code::RESOURCE_EXHAUSTED,
        ErrorKind::DeadlineExceeded => Code::DEADLINE_EXCEEDED,
        ErrorKind::Unavailable => Code::UNAVAILABLE,
        // Of the runtime's making: to containerd it would mean that the whole
        // method is missing, and on Create that it should try Task v2.
        ErrorKind::Unimplemented => Code::FAILED_PRECONDITION,
        ErrorKind::Internal => Code::UNKNOWN,
    }
}

/// The answer to a call on which the runtime failed. It is logged here, once.
pub fn of_runtime(error: &Error) -> ttrpc::Error {
    let report = error.report();
    info!(error = report, "the call failed");
    status(code(error.kind()), report)
}

/// The answer to a Create with options that cannot be used.
pub fn of_options(error: &OptionsError) -> ttrpc::Error {
    status(Code::INVALID_ARGUMENT, error.to_string())
}

/// An answer of any kind.
pub fn status(code: Code, message: impl Into<String>) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message.into()))
}

/// The answer to a call that is not built.
pub fn unimplemented(call: &str) -> ttrpc::Error {
    status(Code::UNIMPLEMENTED, format!("{call} is not implemented by io.sandbox.v1"))
}
