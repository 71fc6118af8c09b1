//! Questions to the kernel about the links, addresses and routes of the
//! namespace of the thread that asks (rtnetlink(7)).

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use sandbox_netlink::{Netlink, route_request};

/// The loopback's index in every namespace.
const LOOPBACK: u32 = 1;
/// Most messages of an answer. A host that speaks BGP has many routes; the
/// number that a pod's guest gets is bounded again.
const MAX_ANSWERS: usize = 1 << 18;

pub(super) fn open() -> io::Result<Netlink> {
    Netlink::open(NETLINK_ROUTE)
}

/// All that there is of one kind.
pub(super) fn dump(
    netlink: &mut Netlink,
    question: RouteNetlinkMessage,
) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut answers = Vec::new();
    netlink.each(&route_request(question, NLM_F_DUMP), &mut |kind, payload| {
        if answers.len() >= MAX_ANSWERS {
            return Err(io::Error::other("the kernel answers with too much"));
        }
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        let message = RouteNetlinkMessage::deserialize(&header, payload);
        answers.push(message.map_err(io::Error::other)?);
        Ok(())
    })?;
    Ok(answers)
}

/// Sets the loopback up.
pub(super) fn raise_loopback() -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = LOOPBACK;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    open()?.done(&route_request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK))
}
