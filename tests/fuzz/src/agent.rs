//! Any bytes as what the agent and the shim read from each other: the first
//! line of a stream, and the messages of the ttrpc service.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protobuf::Message;
use sandbox_agent_protocol::agent::*;
use sandbox_agent_protocol::stream::StreamHeader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = std::str::from_utf8(bytes)
        && let Ok(header) = line.parse::<StreamHeader>()
    {
        assert_eq!(header.to_string().parse::<StreamHeader>(), Ok(header));
    }
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 11 {
        0 => message::<HandshakeRequest>(bytes),
        1 => message::<HandshakeResponse>(bytes),
        2 => message::<CreateContainerRequest>(bytes),
        3 => message::<CreateContainerResponse>(bytes),
        4 => message::<ProcessRequest>(bytes),
        5 => message::<StateResponse>(bytes),
        6 => message::<KillRequest>(bytes),
        7 => message::<WaitResponse>(bytes),
        8 => message::<PidsResponse>(bytes),
        9 => message::<ContainerRequest>(bytes),
        _ => message::<ListenersResponse>(bytes),
    }
});

/// What is taken survives being written again.
fn message<M: Message + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::parse_from_bytes(bytes) {
        let again = message.write_to_bytes().unwrap();
        assert!(M::parse_from_bytes(&again).unwrap() == message);
    }
}
