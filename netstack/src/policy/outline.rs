use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Step, spell};

/// Deepest value that is followed: the schema ends before.
const MAX_DEPTH: usize = 6;

/// Where the values of a file are in its text: for saying where a problem is.
#[derive(Debug)]
pub(super) struct Outline {
    /// Of the value, and of its key where the format tells.
    range: Range<usize>,
    within: Within,
}

#[derive(Debug)]
enum Within {
    Table(Vec<(String, Outline)>),
    List(Vec<Outline>),
    Leaf,
}

impl Outline {
    /// Of a text that is TOML or JSON; none if it is not.
    pub fn of(text: &str) -> Option<Self> {
        if is_json(text) {
            let raw: &RawValue = serde_json::from_str(text).ok()?;
            Some(json(raw, text, 0))
        } else {
            let table = DeTable::parse(text).ok()?;
            Some(Self { range: 0..text.len(), within: toml_table(table.get_ref(), 0) })
        }
    }

    /// Where a value begins, or else the last one on the way to it.
    pub fn offset_of(&self, path: &[Step]) -> Option<usize> {
        let Some((step, rest)) = path.split_first() else { return Some(self.range.start) };
        let next = match (step, &self.within) {
            (Step::Index(index), Within::List(list)) => list.get(*index),
            (Step::Key(key), Within::Table(table)) => find(table, key),
            (Step::Own(key), Within::Table(table)) => find(table, key),
            _ => None,
        };
        match next {
            Some(next) => next.offset_of(rest),
            None => Some(self.range.start),
        }
    }

    /// The innermost value around a place, as it is spelled.
    pub fn path_at(&self, at: usize) -> String {
        let mut path = vec![];
        self.walk(at, &mut path);
        spell(&path)
    }

    fn walk(&self, at: usize, path: &mut Vec<Step>) {
        let holds = |outline: &Self| outline.range.start <= at && at <= outline.range.end;
        match &self.within {
            Within::Table(table) => {
                if let Some((key, next)) = table.iter().find(|(_, next)| holds(next)) {
                    path.push(Step::Own(key.clone()));
                    next.walk(at, path);
                }
            }
            Within::List(list) => {
                if let Some((index, next)) = list.iter().enumerate().find(|(_, next)| holds(next)) {
                    path.push(Step::Index(index));
                    next.walk(at, path);
                }
            }
            Within::Leaf => {}
        }
    }
}

pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn find<'a>(table: &'a [(String, Outline)], key: &str) -> Option<&'a Outline> {
    table.iter().find(|(own, _)| own == key).map(|(_, outline)| outline)
}

fn toml_table(table: &DeTable<'_>, depth: usize) -> Within {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        let mut outline = toml_value(value, depth + 1);
        outline.range.start = outline.range.start.min(key.span().start);
        (name.to_string(), outline)
    };
    let mut entries: Vec<_> = table.iter().map(entry).collect();
    // Sections that are spread over the file come last, as the least precise.
    entries.sort_by_key(|(_, outline)| outline.range.len());
    Within::Table(entries)
}

fn toml_value(value: &Spanned<DeValue<'_>>, depth: usize) -> Outline {
    let mut range = value.span();
    let within = match value.get_ref() {
        _ if depth > MAX_DEPTH => Within::Leaf,
        DeValue::Table(table) => toml_table(table, depth),
        DeValue::Array(array) => {
            Within::List(array.iter().map(|value| toml_value(value, depth + 1)).collect())
        }
        _ => Within::Leaf,
    };
    // The span of a section is its header alone.
    let inner: &mut dyn Iterator<Item = &Outline> = match &within {
        Within::Table(table) => &mut table.iter().map(|(_, outline)| outline),
        Within::List(list) => &mut list.iter(),
        Within::Leaf => &mut std::iter::empty(),
    };
    for outline in inner {
        range.start = range.start.min(outline.range.start);
        range.end = range.end.max(outline.range.end);
    }
    Outline { range, within }
}

fn json(raw: &RawValue, text: &str, depth: usize) -> Outline {
    // A raw value borrows from the text: their distance is its place.
    let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let range = start..start + raw.get().len();
    let within = match raw.get().as_bytes().first() {
        _ if depth > MAX_DEPTH => Within::Leaf,
        Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()).map_or(
            Within::Leaf,
            |table| {
                Within::Table(
                    table.into_iter().map(|(key, raw)| (key, json(raw, text, depth + 1))).collect(),
                )
            },
        ),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(raw.get())
            .map_or(Within::Leaf, |list| {
                Within::List(list.into_iter().map(|raw| json(raw, text, depth + 1)).collect())
            }),
        _ => Within::Leaf,
    };
    Outline { range, within }
}
