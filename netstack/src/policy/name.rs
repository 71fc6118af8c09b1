use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

/// Longest name without its trailing dot (RFC 1035, section 2.3.4).
pub(crate) const MAX_NAME: usize = 253;
/// Longest label (RFC 1035, section 2.3.4).
pub(crate) const MAX_LABEL: usize = 63;

/// Text that is no domain name.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty; write one like api.example.com")]
    Empty,
    /// Two dots in a row, or one at the start.
    #[error("`{0}` has an empty label; two dots must not follow each other")]
    EmptyLabel(String),
    /// More than [`MAX_LABEL`] bytes between two dots.
    #[error("`{0}` has a label of more than {MAX_LABEL} bytes; no such name exists")]
    LongLabel(String),
    /// More than [`MAX_NAME`] bytes.
    #[error("a name of {0} bytes; the longest that exists has {MAX_NAME}")]
    Long(usize),
    /// A `*` that is not the whole first label.
    #[error("`{0}`: `*` may only be the whole first label, as in *.example.com")]
    Wildcard(String),
    #[error("`{0}` is an address; put it under `cidr`")]
    Address(String),
    /// Characters that no host name has, or an invalid international name.
    #[error("`{0}` is not a domain name: letters, digits, `-` and `_` between dots")]
    Characters(String),
}

/// A domain name: A-labels in lower case, no trailing dot. What a label holds
/// beside letters, digits, `-` and `_` is written as `\DDD`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that labels of a DNS message spell. They were checked for
    /// their lengths; the root has none.
    pub(crate) fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut text = String::new();
        for label in labels {
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label {
                match byte.to_ascii_lowercase() {
                    plain @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => text.push(plain.into()),
                    other => text.push_str(&format!("\\{other:03}")),
                }
            }
        }
        Self(text.into())
    }

    /// The labels as they stand in a message.
    pub(crate) fn labels(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.split('.').filter(|label| !label.is_empty()).map(|label| {
            let mut bytes = label.bytes();
            let mut plain = vec![];
            while let Some(byte) = bytes.next() {
                plain.push(match byte {
                    b'\\' => bytes.by_ref().take(3).fold(0, |number: u8, digit| {
                        number.wrapping_mul(10).wrapping_add(digit.wrapping_sub(b'0'))
                    }),
                    other => other,
                });
            }
            plain
        })
    }

    /// This name and then every name above it: `a.b.c`, `b.c`, `c`.
    pub(crate) fn ancestry(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(self.as_str());
        std::iter::from_fn(move || {
            let this = rest?;
            rest = this.split_once('.').map(|(_, above)| above);
            Some(this)
        })
    }
}

/// Lower case, A-labels, checked lengths.
fn normal(text: &str) -> Result<String, NameError> {
    let shown = || text.chars().take(80).collect::<String>();
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    // Before the conversion, whose time grows with the text: each character
    // becomes at least one byte but for a few that vanish.
    if text.len() > 4 * MAX_NAME {
        return Err(NameError::Long(text.len()));
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(NameError::Address(shown()));
    }
    let ascii = Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| NameError::Characters(shown()))?
        .into_owned();
    if ascii.split('.').any(str::is_empty) {
        return Err(NameError::EmptyLabel(shown()));
    }
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if !ascii.bytes().all(allowed) {
        return Err(NameError::Characters(shown()));
    }
    if ascii.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err(NameError::LongLabel(shown()));
    }
    if ascii.len() > MAX_NAME {
        return Err(NameError::Long(ascii.len()));
    }
    Ok(ascii)
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains('*') {
            return Err(NameError::Wildcard(text.chars().take(80).collect()));
        }
        normal(text).map(|name| Self(name.into()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names that a rule means: one, or all below one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `api.example.com`: this name alone.
    Exact(Name),
    /// `*.example.com`: one or more labels before it, and not itself.
    Below(Name),
}

impl Pattern {
    /// Whether the name is meant.
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(apex) => name.ancestry().skip(1).any(|above| above == apex.as_str()),
        }
    }

    /// Whether every name that `other` means is meant.
    pub fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Exact(name) => self.matches(name),
            Self::Below(apex) => match self {
                Self::Exact(_) => false,
                Self::Below(own) => apex.ancestry().any(|above| above == own.as_str()),
            },
        }
    }
}

impl FromStr for Pattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            Some(apex) => apex.parse().map(Self::Below),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(apex) => write!(f, "*.{apex}"),
        }
    }
}
