use sandbox_netstack::host::HostNet;
use sandbox_netstack::port::Port;
use sandbox_vm_spec::network::{Reply, Request};
use smoltcp::time::Instant;

use super::command::Command;
use super::rings::Rings;
use super::settings::{Settings, Tier};
use super::{Configured, Net, Shut, State};
use crate::DeviceError;

impl<H: HostNet> Net<H> {
    /// Does one command.
    pub(super) fn perform(
        &mut self,
        command: Command,
        rings: Option<&mut Rings>,
        now: Instant,
    ) -> Result<Reply, DeviceError> {
        let mut shut = Shut;
        let port: &mut dyn Port = match rings {
            Some(rings) => rings,
            None => &mut shut,
        };
        Ok(match command {
            Command::Configure(settings) => self.configure(*settings, port, now)?,
            Command::SetPolicy { node, pod, recheck } => {
                self.set_policy(*node, *pod, recheck, port, now)
            }
            Command::Ask(request) => self.answer(request, port, now),
        })
    }

    fn configure(
        &mut self,
        settings: Settings,
        port: &mut dyn Port,
        now: Instant,
    ) -> Result<Reply, DeviceError> {
        match &mut self.network {
            Some(network) if network.settings.same_link(&settings) => {
                if !network.settings.same_policy(&settings) {
                    network.settings = settings;
                    self.put_in_force(false, port, now);
                }
            }
            Some(network) => {
                // Numbers of policies are not used twice.
                let mut live = network.live.clone();
                live.replace(&settings.node.layer, &settings.pod.layer, settings.place());
                self.network = Some(Configured { settings, live, listeners: Vec::new() });
                self.rebuild()?;
            }
            None => {
                let live = settings.live();
                self.network = Some(Configured { settings, live, listeners: Vec::new() });
                self.rebuild()?;
            }
        }
        Ok(Reply::Done)
    }

    /// Puts the policies of the settings in force; answers how many flows
    /// ended for it.
    fn put_in_force(&mut self, recheck: bool, port: &mut dyn Port, now: Instant) -> u64 {
        let Some(network) = &mut self.network else { return 0 };
        let settings = &network.settings;
        let (node, pod) = (&settings.node.layer, &settings.pod.layer);
        network.live.replace(node, pod, settings.place());
        let State::Up(stack) = &mut self.state else { return 0 };
        let ended = stack.replace(port, node, pod, settings.place(), recheck, now);
        ended.try_into().unwrap_or(u64::MAX)
    }

    fn set_policy(
        &mut self,
        node: Tier,
        pod: Tier,
        recheck: bool,
        port: &mut dyn Port,
        now: Instant,
    ) -> Reply {
        let Some(network) = &mut self.network else { return unconfigured() };
        (network.settings.node, network.settings.pod) = (node, pod);
        let ended = self.put_in_force(recheck, port, now);
        let generation = self.generation();
        Reply::PolicySet { generation, ended }
    }

    fn generation(&self) -> u64 {
        self.network.as_ref().map_or(0, |network| network.live.policy().generation())
    }

    fn answer(&mut self, request: Request, port: &mut dyn Port, now: Instant) -> Reply {
        match request {
            Request::Listeners { listeners } => {
                let Some(network) = &mut self.network else { return unconfigured() };
                network.listeners = listeners;
                let State::Up(stack) = &mut self.state else {
                    // Bound when the guest's driver is there.
                    return Reply::Listening { failed: Vec::new() };
                };
                stack.report(port, &network.listeners, now);
                let failed = stack.failed_listeners().iter();
                let failed = failed.map(|listen| (listen.at, "cannot be bound".to_owned()));
                Reply::Listening { failed: failed.collect() }
            }
            Request::Policy => {
                let Some(network) = &self.network else { return unconfigured() };
                let (node, pod) = (&network.settings.node, &network.settings.pod);
                Reply::Policy {
                    generation: self.generation(),
                    node: node.source.clone(),
                    pod: pod.source.clone(),
                }
            }
            Request::Counters => Reply::Counters { counters: self.counted() },
            _ => Reply::Failed { error: "the network device cannot answer that".into() },
        }
    }

    fn counted(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = [
            ("frames_malformed", self.drops.malformed),
            ("frames_too_long", self.drops.too_long),
            ("frames_unconfigured", self.drops.unconfigured),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        if let State::Up(stack) = &self.state {
            let (counters, load) = (stack.counters(), stack.load());
            let counts = [
                ("datagrams_dropped", counters.datagrams_dropped),
                ("dials_dropped", counters.dials_dropped),
                ("dials_evicted", counters.dials_evicted),
                ("fins_held", counters.fins_held),
                ("flows_denied", counters.denied),
                ("flows_full", counters.flows_full),
                ("flows_opened", counters.opened),
                ("frames", counters.frames),
                ("listeners_failed", counters.listeners_failed),
                ("sockets_failed", counters.sockets_failed),
                ("strangers", counters.strangers),
            ];
            all.extend(counts.map(|(name, count)| (name.to_owned(), count)));
            let now = [
                ("open_connections", load.connections),
                ("open_dialing", load.dialing),
                ("open_fragment_bytes", load.fragments),
                ("open_pings", load.pings),
                ("open_ring_bytes", load.rings),
                ("open_udp_ports", load.ports),
            ];
            all.extend(now.map(|(name, count)| (name.to_owned(), count as u64)));
            let refused = counters.refused.iter();
            all.extend(refused.map(|(reason, count)| (format!("refused: {reason}"), *count)));
        }
        all.sort();
        all
    }
}

fn unconfigured() -> Reply {
    Reply::Failed { error: "the pod's network is not configured yet; configure it first".into() }
}
