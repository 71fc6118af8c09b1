//! The policy: what the pod may reach, and what may reach it.
//!
//! A policy is made of three tiers. The system's is built in, the node's is
//! the operator's file, the pod's is what the pod chose; a lower one never
//! opens what a higher one denies. Everything that would open a socket on the
//! host for the guest asks [`Policy::decide`] and gets a [`Verdict`]; only its
//! allowing half holds a [`Permit`], which nothing outside of this module can
//! make. So a path around the policy does not compile.
//!
//! Files are read by [`Document::read`], see `docs/policy.md`.

mod address;
mod check;
mod cidr;
mod class;
mod decide;
mod document;
mod explain;
mod finding;
mod flow;
mod index;
mod load;
mod matcher;
mod name;
mod outline;
mod partial;
mod place;
mod ports;
mod read;
mod shadow;
mod tier;
mod verdict;

pub use address::{Forms, Invalid};
pub use check::{MAX_ALL_ENTRIES, MAX_ENTRIES, MAX_RULES};
pub use cidr::{Cidr, CidrError};
pub use class::{Class, ClassName};
pub use document::{
    Action, BlockAnswer, Defaults, DenyMode, Dns, Document, Echo, Other, Resolvers, Rule, Sni,
    Stance,
};
pub use explain::{Answer, Destination, DestinationError, Explanation, Host};
pub use flow::{Direction, Flow, Known, Names, Protocol};
pub use load::{Loaded, MAX_TEXT, Problem};
pub(crate) use name::MAX_LABEL;
pub use name::{Name, NameError, Pattern};
pub use place::{EMBEDDED_RESOLVER, Place};
pub use ports::{Ports, PortsError};
pub use read::ReadError;
pub use tier::{Layer, Policy};
pub use verdict::{Denial, Ground, Permit, Reason, Tier, Verdict};

#[cfg(test)]
mod tests;
