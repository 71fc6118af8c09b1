use std::net::IpAddr;

use sandbox_netstack::policy::{Destination, Protocol};

/// What is asked about the policy in force, read.
#[derive(Clone, Debug)]
pub struct Question {
    /// What would be spoken.
    pub protocol: Protocol,
    /// Where to.
    pub destination: Destination,
    /// The address that the name leads to, if not where it led.
    pub at: Option<IpAddr>,
}

impl Question {
    /// Reads it, or answers what is wrong with it.
    pub fn read(protocol: &str, destination: &str, at: Option<IpAddr>) -> Result<Self, String> {
        let known = Protocol::ALL.iter().copied().find(|known| known.to_string() == protocol);
        let protocol = known.ok_or("the protocol is none of tcp, udp and icmp")?;
        let destination = destination.parse::<Destination>().map_err(|error| error.to_string())?;
        Ok(Self { protocol, destination, at })
    }
}
