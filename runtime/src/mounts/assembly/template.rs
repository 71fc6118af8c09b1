//! What containerd's transform `format` fills in: `{{ mount 0 }}` and the like.

/// A mount that was made before.
pub struct Active {
    /// What it was made of, as the guest knows it.
    pub source: String,
    /// Where the guest has it.
    pub point: String,
}

/// A text without templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// Something was filled in: a path in it is one of the guest's.
    pub of_guest: bool,
}

impl From<&str> for Filled {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), of_guest: false }
    }
}

/// Replaces the references of `text` to the mounts before it.
pub fn fill(text: &str, active: &[Active]) -> Result<Filled, String> {
    let mut filled = Filled { text: String::new(), of_guest: false };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) =
            after.split_once("}}").ok_or_else(|| format!("{text:?} has no end"))?;
        filled.text.push_str(before);
        filled.text.push_str(&value(inside, active)?);
        filled.of_guest = true;
        rest = after;
    }
    filled.text.push_str(rest);
    Ok(filled)
}

fn value(inside: &str, active: &[Active]) -> Result<String, String> {
    let number = |word: &str| {
        let index = word.parse::<usize>().ok().filter(|index| *index < active.len());
        index.ok_or_else(|| format!("{{{{{inside}}}}} names a mount that is not before it"))
    };
    let words: Vec<&str> = inside.split_whitespace().collect();
    match words[..] {
        ["source", index] => Ok(active[number(index)?].source.clone()),
        ["mount", index] => Ok(active[number(index)?].point.clone()),
        ["overlay", from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            let points = |range: std::ops::RangeInclusive<usize>| active[range].iter();
            let point = |active: &Active| active.point.clone();
            let list: Vec<String> = if from <= to {
                points(from..=to).map(point).collect()
            } else {
                points(to..=from).rev().map(point).collect()
            };
            Ok(list.join(":"))
        }
        _ => Err(format!("{{{{{inside}}}}} is not known")),
    }
}
