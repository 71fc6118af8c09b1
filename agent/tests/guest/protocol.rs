//! The handshake, and what is refused.

use sandbox_agent_protocol::PROTOCOL_VERSION;
use ttrpc::Code;

use crate::vm::{Vm, container, ctx, hello};

pub fn code(error: &ttrpc::Error) -> (Code, String) {
    match error {
        ttrpc::Error::RpcStatus(status) => (status.code(), status.message.clone()),
        other => panic!("{other:?}"),
    }
}

pub async fn before_the_handshake(vm: &Vm) {
    let error = vm.agent.state(ctx(), &container("a")).await.unwrap_err();
    assert_eq!(code(&error), (Code::FAILED_PRECONDITION, "the handshake must come first".into()));
    let error = vm.agent.handshake(ctx(), &hello(PROTOCOL_VERSION + 1)).await.unwrap_err();
    let (code, text) = code(&error);
    assert_eq!(code, Code::FAILED_PRECONDITION);
    let theirs = format!("version {PROTOCOL_VERSION} and the shim {}", PROTOCOL_VERSION + 1);
    assert!(text.contains(&theirs), "{text}");
    assert!(vm.fetch("a - stdout").await.unwrap_err().starts_with("ERR "));
}

pub async fn after_the_handshake(vm: &Vm) {
    let error = vm.agent.handshake(ctx(), &hello(PROTOCOL_VERSION)).await.unwrap_err();
    assert_eq!(code(&error).0, Code::FAILED_PRECONDITION);
    for id in ["", "..", "../x", "a/b", "-a", "a\0", "ü", &"a".repeat(300)] {
        let error = vm.state(id).await.unwrap_err();
        assert_eq!(code(&error).0, Code::INVALID_ARGUMENT, "{id:?}");
    }
    assert_eq!(code(&vm.state("none").await.unwrap_err()).0, Code::NOT_FOUND);
    assert_eq!(code(&vm.delete("none").await.unwrap_err()).0, Code::NOT_FOUND);
}

/// A guest whose host hangs up ends.
pub async fn ends(mut vm: Vm) {
    vm.agent.shutdown(ctx(), &Default::default()).await.unwrap();
    assert!(vm.ended().await, "the guest did not end:\n{}", vm.console());
}
