//! What is known of a pod's network before its processes run.

use std::fs::{DirBuilder, File, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use sandbox_agent_protocol::agent::ConfigureNetworkRequest;
use sandbox_vm_spec::network::{GATEWAY_MAC, LinkSpec, Network as Setting};
use sha2::{Digest, Sha256};

use super::guest::Guest;
use super::interface::Interface;
use super::namespace::Namespace;
use super::resolv::Resolv;
use super::scan::{addresses, scan};
use super::store::Policies;
use super::{NetworkError, developer, policy};
use crate::config::NetworkConfig;
use crate::file::write_atomically;
use crate::id::PodId;
use crate::pod_directory::{PodDirectory, PodDirectoryError};
use crate::pod_spec::{NetworkNamespace, PodSpec};

/// Most bytes of an audit file; there are two, and the pod's directory is in
/// memory.
pub(crate) const AUDIT_MAX: u64 = 4 << 20;
/// Largest MTU of an interface that is not known yet.
const MAX_MTU: u16 = 65520;

/// Docker's namespace in containerd.
const DOCKER: &str = "moby";

/// Origin of a pod's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// That of a namespace which containerd names.
    Given,
    /// That of a new namespace, which hooks or Docker set up or leave as it is.
    Hooks,
    /// That of a new namespace, if it is set up when the first process is to
    /// run, as `ctr run --cni` and Docker do. The developer network otherwise.
    Developer,
    /// The host's.
    Host,
    /// None: nothing but loopback.
    Loopback,
}

impl Mode {
    /// In the pod's state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "namespace",
            Self::Hooks => "hooks",
            Self::Developer => "developer",
            Self::Host => "host",
            Self::Loopback => "loopback",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    mode: Mode,
    namespace: Namespace,
    /// The host's, in the developer network.
    outside: Option<Namespace>,
    /// None where it is not there yet.
    interface: Option<Interface>,
    /// That of a guest in the developer network.
    developer: Interface,
    link: LinkSpec,
    policies: Policies,
    resolv: Resolv,
    /// The resolv.conf on the host that the pod's spec mounts.
    given: Option<PathBuf>,
    host: Vec<IpAddr>,
    cluster: Vec<String>,
}

/// What the `io` process inherits.
pub(crate) struct Files {
    pub listener: UnixListener,
    pub audit: [File; 2],
}

impl Plan {
    /// Decides, or refuses. Blocks.
    pub fn make(config: &NetworkConfig, id: &PodId, spec: &PodSpec) -> Result<Self, NetworkError> {
        // First: with a broken policy nothing is looked at.
        let asked = spec.annotations.get(policy::ANNOTATION).map(String::as_str);
        let policies =
            Policies { node: policy::of_node(config)?, pod: policy::of_pod(config, asked)? };
        let (mode, namespace) = choose(config, id, spec)?;
        let interface = match mode {
            Mode::Developer | Mode::Hooks | Mode::Loopback => None,
            Mode::Given => look(&namespace, "pod")?,
            Mode::Host => look(&namespace, "host")?,
        };
        let host = Namespace::host()?;
        Ok(Self {
            mode,
            namespace,
            outside: (mode == Mode::Developer).then(|| host.clone()),
            developer: developer::interface(&config.developer_addresses),
            link: link(id, interface.as_ref()),
            interface,
            policies,
            resolv: resolv(mode, spec.resolv_conf.as_deref()),
            given: spec.resolv_conf.clone(),
            host: addresses(&host).map_err(|error| NetworkError::Scan("host", error))?,
            cluster: config.cluster.iter().map(ToString::to_string).collect(),
        })
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether containers whose spec mounts no resolv.conf get the pod's.
    pub fn has_resolv_conf(&self) -> bool {
        self.mode == Mode::Developer || self.given.is_some()
    }

    /// Whether the client sets up the new namespace between create and start.
    pub fn is_set_up_later(&self) -> bool {
        matches!(self.mode, Mode::Hooks | Mode::Developer)
    }

    /// Where the `io` process works.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Where it works instead, in the developer network.
    pub fn outside(&self) -> Option<&Namespace> {
        self.outside.as_ref()
    }

    /// The guest's end of the link.
    pub fn link(&self) -> LinkSpec {
        self.link
    }

    /// Makes what has a path: the socket, the audit, the policies and a
    /// resolv.conf in the pod's directory. Blocks.
    pub fn set_up(
        &self,
        directory: &PodDirectory,
        audit_dir: Option<&Path>,
        id: &PodId,
    ) -> Result<Files, SetUpError> {
        let listener = directory.listen(&directory.network())?;
        self.policies.write(&directory.policies()).map_err(at("write", &directory.policies()))?;
        if self.has_resolv_conf() {
            let path = directory.resolv_conf();
            write_atomically(&path, self.resolv.text.as_bytes()).map_err(at("write", &path))?;
            // Programs of any user read it.
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .map_err(at("open to all", &path))?;
        }
        if let Some(dir) = audit_dir {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(at("create the directory", dir))?;
        }
        let paths = directory.audits(audit_dir, id);
        let [first, second] =
            paths.each_ref().map(|path| open_audit(path).map_err(at("open", path)));
        Ok(Files { listener, audit: [first?, second?] })
    }

    /// The settings for the `io` process and the agent; none where there is
    /// nothing but loopback. Blocks.
    pub fn settle(&self) -> Result<Option<(Setting, ConfigureNetworkRequest)>, NetworkError> {
        let interface = match &self.interface {
            Some(interface) => Some(interface.clone()),
            None if self.mode == Mode::Loopback => None,
            None => look(&self.namespace, "pod")?,
        };
        let outside = interface.is_none() && self.mode == Mode::Developer;
        let interface = interface.or_else(|| outside.then(|| self.developer.clone()));
        let Some(interface) = interface else {
            tracing::info!("the sandbox's network namespace has nothing but loopback");
            return Ok(None);
        };
        // The client writes the file when it sets up the namespace, as Docker does.
        let resolv = match self.is_set_up_later() {
            true => resolv(self.mode, self.given.as_deref()),
            false => self.resolv.clone(),
        };
        let guest = Guest { interface, link: self.link, resolv: &resolv };
        let setting = Setting {
            guest: guest.addresses(),
            // The developer network does not bind the host's own addresses.
            bound: if outside { Vec::new() } else { guest.addresses() },
            outside,
            mtu: guest.mtu(),
            gateway4: guest.interface.gateway4,
            gateway6: guest.interface.gateway6,
            resolvers: resolv.servers.clone(),
            host: self.host.clone(),
            cluster: self.cluster.clone(),
            node: self.policies.node.clone(),
            pod: self.policies.pod.clone(),
        };
        Ok(Some((setting, guest.request())))
    }
}

/// The pod's directory, or a file in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    #[error(transparent)]
    Directory(#[from] PodDirectoryError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NetworkError {
    let path: PathBuf = path.to_owned();
    move |source| NetworkError::File { what, path, source }
}

fn choose(
    config: &NetworkConfig,
    id: &PodId,
    spec: &PodSpec,
) -> Result<(Mode, Namespace), NetworkError> {
    match &spec.network {
        NetworkNamespace::Host => host(config, ""),
        NetworkNamespace::Path(path) => {
            let namespace = Namespace::open(path)?;
            match namespace.is_host()? {
                true => host(config, ", whose namespace its spec names"),
                false => Ok((Mode::Given, namespace)),
            }
        }
        // A client that runs hooks sets up the network in them, or wants none. So has Docker,
        // which runs none since version 27.
        NetworkNamespace::New if spec.has_create_hooks || id.namespace() == DOCKER => {
            Ok((Mode::Hooks, Namespace::make()?))
        }
        NetworkNamespace::New if config.developer => Ok((Mode::Developer, Namespace::make()?)),
        NetworkNamespace::New => Ok((Mode::Loopback, Namespace::make()?)),
    }
}

fn host(config: &NetworkConfig, how: &'static str) -> Result<(Mode, Namespace), NetworkError> {
    match config.allow_host {
        true => Ok((Mode::Host, Namespace::host()?)),
        false => Err(NetworkError::Host { how }),
    }
}

fn look(namespace: &Namespace, whose: &'static str) -> Result<Option<Interface>, NetworkError> {
    let scan = scan(namespace).map_err(|error| NetworkError::Scan(whose, error))?;
    Ok(scan.interface())
}

/// The interface's own MAC address, or one that is always the same for a pod
/// of this name.
fn link(id: &PodId, interface: Option<&Interface>) -> LinkSpec {
    let own = interface.and_then(|interface| interface.mac).filter(|mac| *mac != GATEWAY_MAC);
    let mac = own.unwrap_or_else(|| {
        let digest = Sha256::digest(id.to_string());
        // Locally administered, of one station, and never the gateway's.
        let mut mac = [0x0a; 6];
        mac[1..].copy_from_slice(&digest[..5]);
        mac
    });
    LinkSpec { mac, mtu: interface.map_or(MAX_MTU, |interface| interface.mtu) }
}

/// The servers that the pod was given. What its image says is the guest's own
/// word, and teaches no names.
fn resolv(mode: Mode, given: Option<&Path>) -> Resolv {
    match (given, mode) {
        (Some(path), _) => Resolv::read(path).unwrap_or_else(|error| {
            tracing::warn!("cannot read {}, so no DNS server is known: {error}", path.display());
            Resolv::default()
        }),
        (None, Mode::Developer | Mode::Host) => Resolv::of_host(),
        (None, _) => Resolv::default(),
    }
}

fn open_audit(path: &Path) -> std::io::Result<File> {
    let flags = libc::O_NOFOLLOW;
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests;
