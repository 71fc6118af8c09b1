use sandbox_netstack::host::HostNet;
use sandbox_netstack::listing::OutlookRow;
use sandbox_netstack::policy::Names;
use sandbox_netstack::port::Port;
use sandbox_vm_spec::network::{Listener, Reply, Request};
use smoltcp::time::Instant;

use super::command::Command;
use super::question::Question;
use super::rings::Rings;
use super::settings::{Settings, Tier};
use super::{Configured, Net, Shut, State, rows};
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
            Command::Captures => {
                if let State::Up(stack) = &mut self.state {
                    stack.capture(self.taps.capture(self.clock.epoch()));
                }
                Reply::Done
            }
            Command::Explain(question) => self.explain(&question, now),
            Command::Ask(request) => self.answer(request, port, now),
        })
    }

    fn configure(
        &mut self,
        settings: Settings,
        port: &mut dyn Port,
        now: Instant,
    ) -> Result<Reply, DeviceError> {
        if let Err(error) = self.settle(settings.network().outside) {
            return Ok(Reply::Failed { error });
        }
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
                self.rebuild(port)?;
            }
            None => {
                let live = settings.live();
                self.network = Some(Configured { settings, live, listeners: Vec::new() });
                self.rebuild(port)?;
            }
        }
        Ok(Reply::Done)
    }

    /// Sockets are opened where they were opened first, for good.
    fn settle(&mut self, outside: bool) -> Result<(), String> {
        match (self.settle.take(), &self.network) {
            (Some(settle), _) => settle(outside)
                .map_err(|error| format!("cannot settle where sockets are opened: {error}")),
            (None, Some(network)) if network.settings.network().outside == outside => Ok(()),
            (None, _) => Err("it is settled already where sockets are opened, or that failed; \
                 start the pod anew"
                .to_owned()),
        }
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
        if self.carried.tell(stack, port, now) {
            self.forwards.look();
        }
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
        let stack = match &self.state {
            State::Up(stack) => Some(stack),
            _ => None,
        };
        match request {
            Request::Listeners { listeners } => self.listen(listeners, port, now),
            Request::Listening => {
                let waiting = self.network.iter().flat_map(|network| &network.listeners);
                let listeners = match stack {
                    Some(stack) => rows::listeners(stack.listeners()),
                    None => rows::waiting(waiting),
                };
                Reply::Listeners { listeners }
            }
            Request::Policy => self.policy(),
            Request::Counters => Reply::Counters { counters: self.counted() },
            Request::Flows => {
                let flows = stack.map(|stack| stack.flows()).unwrap_or_default();
                Reply::Flows { flows: rows::flows(flows, now) }
            }
            Request::Names => {
                let names = stack.map(|stack| stack.names(now)).unwrap_or_default();
                Reply::Names { names: rows::names(names) }
            }
            Request::Configure(_)
            | Request::SetPolicy { .. }
            | Request::Explain { .. }
            | Request::Capture { .. } => {
                // A handle makes other commands of them.
                Reply::Failed { error: "the network device was asked the wrong way".into() }
            }
        }
    }

    fn listen(&mut self, listeners: Vec<Listener>, port: &mut dyn Port, now: Instant) -> Reply {
        let Some(network) = &mut self.network else { return unconfigured() };
        network.listeners = listeners.into_iter().map(rows::reported).collect();
        let State::Up(stack) = &mut self.state else {
            // Bound when the guest's driver is there.
            return Reply::Listening { failed: Vec::new() };
        };
        stack.report(port, &network.listeners, now);
        let failed = stack.failed_listeners().iter();
        let failed = failed.map(|(listen, error)| {
            (rows::transport(listen.protocol), listen.at, error.to_string())
        });
        Reply::Listening { failed: failed.collect() }
    }

    fn policy(&self) -> Reply {
        let Some(network) = &self.network else { return unconfigured() };
        let (node, pod) = (&network.settings.node, &network.settings.pod);
        Reply::Policy {
            generation: self.generation(),
            node: node.source.clone(),
            pod: pod.source.clone(),
        }
    }

    fn explain(&mut self, question: &Question, now: Instant) -> Reply {
        let Some(network) = &self.network else { return unconfigured() };
        let Question { protocol, destination, at } = question;
        let outlook = match &mut self.state {
            State::Up(stack) => stack.outlook(*protocol, destination, *at, now),
            // Nothing has been learnt without a guest.
            _ => {
                let told = network.live.policy().explain(*protocol, destination, *at);
                vec![OutlookRow { address: *at, names: Names::default(), told }]
            }
        };
        Reply::Explained { generation: self.generation(), outlook: rows::outlook(outlook) }
    }

    fn counted(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = [
            ("link.malformed", self.drops.malformed),
            ("link.too-long", self.drops.too_long),
            ("link.unconfigured", self.drops.unconfigured),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        if let State::Up(stack) = &self.state {
            let load = stack.load();
            let now = [
                ("open.connections", load.connections),
                ("open.dialing", load.dialing),
                ("open.fragment-bytes", load.fragments),
                ("open.pings", load.pings),
                ("open.ring-bytes", load.rings),
                ("open.udp-ports", load.ports),
            ];
            all.extend(now.map(|(name, count)| (name.to_owned(), count as u64)));
            all.extend(stack.counts());
        }
        all.sort();
        all
    }
}

fn unconfigured() -> Reply {
    Reply::Failed { error: "the pod's network is not configured yet; configure it first".into() }
}
