//! A running pod by what people call it.

use std::io;

use crate::config::Config;
use crate::id::{IdError, PodId};
use crate::state::{State, list};

/// Most pods that an error lists.
const MAX_LISTED: usize = 10;

/// There is no pod, or not one alone, of that name.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The states cannot be read.
    #[error("cannot list the sandboxes of this host")]
    List(#[from] io::Error),
    /// None.
    #[error("no sandbox {name:?} runs on this host; {}", those(.running))]
    None {
        /// What was asked for.
        name: String,
        /// Those that run.
        running: Vec<String>,
    },
    /// More than one.
    #[error("{name:?} may be {}: give more of the name", .pods.join(" or "))]
    Several {
        /// What was asked for.
        name: String,
        /// Those that it may be.
        pods: Vec<String>,
    },
    /// A state with an id that is none.
    #[error(transparent)]
    Id(#[from] IdError),
}

fn those(pods: &[String]) -> String {
    let more = pods.len().saturating_sub(MAX_LISTED);
    match (pods.len(), more) {
        (0, _) => "there are none".to_owned(),
        (_, 0) => format!("there are {}", pods.join(", ")),
        _ => format!("there are {} and {more} more", pods[..MAX_LISTED].join(", ")),
    }
}

/// The pod of this id, with containerd's namespace before it (`k8s.io/web`)
/// or without; the beginning of an id is enough where it is the only one.
pub fn lookup(config: &Config, name: &str) -> Result<PodId, LookupError> {
    let states: Vec<State> = list(config)?.into_iter().filter(State::is_running).collect();
    pick(&states, name)
}

fn pick(states: &[State], name: &str) -> Result<PodId, LookupError> {
    let (namespace, id) = match name.split_once('/') {
        Some((namespace, id)) => (Some(namespace), id),
        None => (None, name),
    };
    let within = || {
        let fits = move |state: &&State| namespace.is_none_or(|n| n == state.pod.namespace);
        states.iter().filter(fits)
    };
    let mut found: Vec<&State> = within().filter(|state| state.pod.id == id).collect();
    if found.is_empty() && !id.is_empty() {
        found = within().filter(|state| state.pod.id.starts_with(id)).collect();
    }
    let spell = |state: &State| format!("{}/{}", state.pod.namespace, state.pod.id);
    let name = name.to_owned();
    match found.as_slice() {
        [state] => Ok(PodId::new(&state.pod.namespace, &state.pod.id)?),
        [] => Err(LookupError::None { name, running: states.iter().map(spell).collect() }),
        several => {
            let pods = several.iter().take(MAX_LISTED).map(|state| spell(state)).collect();
            Err(LookupError::Several { name, pods })
        }
    }
}

#[cfg(test)]
mod tests;
