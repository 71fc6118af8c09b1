#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sandbox_runtime::ProcessRef;

use super::*;

fn parts(error: ttrpc::Error) -> (Code, String) {
    let ttrpc::Error::RpcStatus(status) = error else { panic!("{error:?} is no status") };
    (status.code.unwrap(), status.message)
}

#[test]
fn kinds_become_the_codes_that_clients_test() {
    let table = [
        (ErrorKind::InvalidArgument, Code::INVALID_ARGUMENT),
        (ErrorKind::NotFound, Code::NOT_FOUND),
        (ErrorKind::AlreadyExists, Code::ALREADY_EXISTS),
        (ErrorKind::FailedPrecondition, Code::FAILED_PRECONDITION),
        (ErrorKind::ResourceExhausted, Code::RESOURCE_EXHAUSTED),
        (ErrorKind::DeadlineExceeded, Code::DEADLINE_EXCEEDED),
        (ErrorKind::Unavailable, Code::UNAVAILABLE),
        (ErrorKind::Internal, Code::UNKNOWN),
    ];
    for (kind, expected) in table {
        assert_eq!(code(kind), expected, "{kind:?}");
    }
}

#[test]
fn the_runtime_never_says_that_a_method_is_missing() {
    assert_ne!(code(ErrorKind::Unimplemented), Code::UNIMPLEMENTED);
}

#[test]
fn messages_reach_the_client() {
    let missing = Error::NotFound(ProcessRef::init("web"));
    let (code, message) = parts(of_runtime(&missing));
    assert_eq!(code, Code::NOT_FOUND);
    assert_eq!(message, missing.report());
    let (code, message) = parts(of_options(&OptionsError::Unknown("x.Y".into())));
    assert_eq!(code, Code::INVALID_ARGUMENT);
    assert!(message.contains("x.Y"));
    let (code, message) = parts(unimplemented("Pause"));
    assert_eq!(code, Code::UNIMPLEMENTED);
    assert!(message.contains("Pause"));
}
