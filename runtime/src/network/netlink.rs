//! Questions to the kernel about the links, addresses and routes of the
//! namespace of the thread that asks (rtnetlink(7)).

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// The loopback's index in every namespace.
const LOOPBACK: u32 = 1;
/// Most messages of an answer: the routes of a host that speaks BGP are many,
/// and what a pod's guest gets is bounded again.
const MAX_ANSWERS: usize = 1 << 18;
/// Header of a netlink message (netlink(7)).
const HEADER: usize = 16;

/// A socket for questions.
pub(super) struct Netlink {
    socket: Socket,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// All that there is of one kind.
    pub fn dump(&self, question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.ask(question, NLM_F_REQUEST | NLM_F_DUMP)
    }

    /// Sets the loopback up.
    pub fn raise_loopback(&self) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = LOOPBACK;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_REQUEST | NLM_F_ACK).map(drop)
    }

    fn ask(
        &self,
        question: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if is_whole(&datagram, &mut answers)? {
                return Ok(answers);
            }
            if answers.len() > MAX_ANSWERS {
                return Err(io::Error::other("the kernel answers with too much"));
            }
        }
    }
}

/// Takes the messages of a datagram; true with the last of the answer.
fn is_whole(datagram: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    let mut rest = datagram;
    while rest.len() >= HEADER {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
        let message = message.map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(inner) => answers.push(inner),
            _ => {}
        }
        let length = (message.header.length as usize).next_multiple_of(4);
        match rest.get(length..) {
            Some(after) if length >= HEADER => rest = after,
            _ => break,
        }
    }
    Ok(false)
}
