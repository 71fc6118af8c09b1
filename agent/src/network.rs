//! The guest's network, as the host describes it: its one interface, addresses,
//! routes, and the names that the guest itself knows.
//!
//! Nothing of it is discovered on the link, which has no other end but
//! the host, which knows.

mod interface;
mod message;
mod plan;

use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_sys::protocols::NETLINK_ROUTE;
use sandbox_agent_protocol::agent::ConfigureNetworkRequest;
use sandbox_netlink::Netlink;

use crate::paths::{HOSTS, RESOLV_CONF};
use plan::{Item, Link, Plan};

pub use plan::PlanError;

/// A network that could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("network: {0}")]
    Plan(#[from] PlanError),
    #[error("network: the guest has no virtio network device to be {0}")]
    NoDevice(String),
    #[error("network: another call is configuring it")]
    Busy,
    #[error("network: {what}: {source}")]
    Kernel { what: String, source: io::Error },
}

fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Kernel { what: what.into(), source }
}

/// What has been set, so that the next call can replace it.
#[derive(Debug, Default)]
struct Applied {
    index: Option<u32>,
    items: Vec<Item>,
}

#[derive(Debug)]
pub struct Network {
    /// None while a call is under way.
    applied: Mutex<Option<Applied>>,
}

impl Default for Network {
    fn default() -> Self {
        Self { applied: Mutex::new(Some(Applied::default())) }
    }
}

impl Network {
    /// Sets the network to what `request` describes, and removes the rest.
    pub fn configure(&self, request: &ConfigureNetworkRequest) -> Result<(), NetworkError> {
        let plan = Plan::new(request)?;
        let mut applied = self.lock().take().ok_or(NetworkError::Busy)?;
        let done = applied.replace_by(&plan);
        *self.lock() = Some(applied);
        done?;
        write(RESOLV_CONF, &request.resolv_conf)?;
        write(HOSTS, &hosts(&request.hosts))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Applied>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Applied {
    /// Whatever happens, what is set afterwards is in `self`.
    fn replace_by(&mut self, plan: &Plan) -> Result<(), NetworkError> {
        if plan.link.is_none() && self.index.is_none() {
            return attach(false);
        }
        let mut kernel = Netlink::open(NETLINK_ROUTE).map_err(refused("opening rtnetlink"))?;
        if let Some(index) = self.index {
            self.remove_all_but(&mut kernel, index, &plan.items)?;
        }
        if let Some(link) = &plan.link {
            attach(true)?;
            let index = set_link(&mut kernel, self.index, link)?;
            self.index = Some(index);
            let off_loopback =
                |item: &Item| matches!(item, Item::Route(route) if route.leads_off_loopback());
            if plan.items.iter().any(off_loopback) {
                interface::allow_loopback(&link.name)
                    .map_err(refused("letting a loopback's address onto the link"))?;
            }
            return plan.items.iter().try_for_each(|item| self.set(&mut kernel, index, item));
        }
        if let Some(index) = self.index.take() {
            let off = kernel.done(&message::switch(index, false));
            off.map_err(refused("switching the interface off"))?;
            attach(false)?;
        }
        Ok(())
    }

    /// Routes go before the addresses that they need.
    fn remove_all_but(
        &mut self,
        kernel: &mut Netlink,
        index: u32,
        kept: &[Item],
    ) -> Result<(), NetworkError> {
        for at in (0..self.items.len()).rev() {
            let item = &self.items[at];
            if kept.contains(item) {
                continue;
            }
            match kernel.done(&message::remove(index, item)) {
                Err(error) if !is_gone(&error) => {
                    return Err(refused(format!("removing {item}"))(error));
                }
                _ => drop(self.items.remove(at)),
            }
        }
        Ok(())
    }

    fn set(&mut self, kernel: &mut Netlink, index: u32, item: &Item) -> Result<(), NetworkError> {
        let set = match (kernel.done(&message::set(index, item)), item) {
            // A route of the pod may have made the gateway reachable.
            (Err(error), Item::Route(route)) if route.gateway.is_some() && is_far(&error) => {
                kernel.done(&message::set_onlink(index, route))
            }
            (set, _) => set,
        };
        set.map_err(refused(format!("setting {item}")))?;
        if !self.items.contains(item) {
            self.items.push(item.clone());
        }
        Ok(())
    }
}

fn attach(attached: bool) -> Result<(), NetworkError> {
    let what = if attached { "attaching" } else { "detaching" };
    interface::set_attached(attached)
        .map_err(refused(format!("{what} the driver of the network device")))
}

/// Whether what was to be removed is not there: a program in the guest may
/// have removed it, or the kernel together with something else.
fn is_gone(error: &io::Error) -> bool {
    let gone = [libc::ESRCH, libc::ENOENT, libc::EADDRNOTAVAIL, libc::ENODEV];
    error.raw_os_error().is_some_and(|errno| gone.contains(&errno))
}

/// Whether a gateway is not on the link by any other route.
fn is_far(error: &io::Error) -> bool {
    [Some(libc::ENETUNREACH), Some(libc::EHOSTUNREACH)].contains(&error.raw_os_error())
}

fn set_link(kernel: &mut Netlink, known: Option<u32>, link: &Link) -> Result<u32, NetworkError> {
    let name = &link.name;
    let found = interface::find().map_err(refused("looking for the network device"))?;
    let found = found.into_iter().find(|found| known.is_none_or(|index| found.index == index));
    let found = found.ok_or_else(|| NetworkError::NoDevice(name.clone()))?;
    let index = found.index;
    if found.name != *name {
        let renamed = kernel.done(&message::rename(index, name));
        renamed.map_err(refused(format!("renaming {} to {name}", found.name)))?;
    }
    // Before it is up: then the kernel would begin to ask around.
    interface::make_quiet(name)
        .map_err(refused(format!("switching autoconfiguration of {name} off")))?;
    let set = kernel.done(&message::set_link(index, link));
    set.map_err(refused(format!("setting MAC address and MTU of {name}")))?;
    kernel.done(&message::switch(index, true)).map_err(refused(format!("switching {name} on")))?;
    Ok(index)
}

fn hosts(given: &str) -> String {
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{given}")
}

fn write(path: &str, text: &str) -> Result<(), NetworkError> {
    let dir = path.rsplit_once('/').map_or("/", |(dir, _)| dir);
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(path, text))
        .map_err(refused(format!("writing {path}")))
}
