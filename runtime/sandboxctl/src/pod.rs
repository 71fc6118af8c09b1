//! Finds the sandbox that is meant.

use sandbox_runtime::{Config, PodId, State};

use crate::list::unreadable;
use crate::show::plain;

#[cfg(test)]
#[path = "pod/tests.rs"]
mod tests;

/// Most sandboxes that an error lists.
const MAX_LISTED: usize = 20;

/// A sandbox that is not there, or not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPod {
    /// None has the id.
    #[error("there is no sandbox {asked}; {running}", asked = plain(.0), running = running(.1))]
    Unknown(String, Vec<String>),
    /// More than one has.
    #[error("{asked} may be {meant}: write one of them", asked = plain(.0), meant = some(.1))]
    Unclear(String, Vec<String>),
    /// It runs no more.
    #[error("sandbox {0} runs no more: its shim is gone")]
    Stale(String),
}

fn running(names: &[String]) -> String {
    match names {
        [] => "none runs".to_owned(),
        [name] => format!("{name} runs"),
        names => format!("these run: {}", some(names)),
    }
}

fn some(names: &[String]) -> String {
    let listed = names.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// The sandbox that `asked` names: `id` or `namespace/id`, or the beginning of
/// an id that no other has.
pub fn find(config: &Config, asked: &str) -> Result<PodId, Box<dyn std::error::Error>> {
    let states = sandbox_runtime::list(config).map_err(|error| unreadable(config, &error))?;
    let state = choose(&states, asked)?;
    if !state.is_running() {
        return Err(NoPod::Stale(name(state)).into());
    }
    Ok(PodId::new(&state.pod.namespace, &state.pod.id)?)
}

fn name(state: &State) -> String {
    plain(&format!("{}/{}", state.pod.namespace, state.pod.id))
}

fn choose<'a>(states: &'a [State], asked: &str) -> Result<&'a State, NoPod> {
    let (namespace, id) = match asked.split_once('/') {
        Some((namespace, id)) => (Some(namespace), id),
        None => (None, asked),
    };
    let here = |state: &&State| namespace.is_none_or(|is| is == state.pod.namespace);
    let mut meant: Vec<&State> =
        states.iter().filter(here).filter(|state| state.pod.id == id).collect();
    if meant.is_empty() && !id.is_empty() {
        meant = states.iter().filter(here).filter(|state| state.pod.id.starts_with(id)).collect();
    }
    match meant[..] {
        [state] => Ok(state),
        [] => {
            let running = states.iter().filter(|state| state.is_running()).map(name).collect();
            Err(NoPod::Unknown(asked.to_owned(), running))
        }
        _ => Err(NoPod::Unclear(asked.to_owned(), meant.into_iter().map(name).collect())),
    }
}
