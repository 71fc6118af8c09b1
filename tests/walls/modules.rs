//! Walls inside a crate: sibling modules form no circles.
//!
//! Module `a` uses its sibling `b` when a file of `a` names an item of `b`,
//! directly or through a re-export. What a module and its own children use of
//! each other does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

use crate::{none, source, tree};

/// Circles that are not dissolved yet, which shrink to nothing: the root file of
/// the crate, the parent of the modules, and the modules.
const CIRCLES: &[(&str, &str, &[&str])] = &[("vmm/devices/src/lib.rs", "", &["device", "queue"])];

type Segments = Vec<String>;

/// For each of some siblings, which others it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Siblings that use each other in a circle.
struct Circle {
    parent: String,
    modules: Vec<String>,
    /// Their uses of each other, for the reader of the failure.
    uses: Vec<String>,
}

/// What one module declares and names.
#[derive(Default)]
struct Module {
    /// Imported names and what they stand for.
    imports: BTreeMap<String, Segments>,
    /// Paths from the root of the crate that its code names.
    named: BTreeSet<Segments>,
}

/// The modules of one crate, without what is compiled for tests alone.
#[derive(Default)]
struct Modules(BTreeMap<Segments, Module>);

impl Modules {
    fn read(root: &Path) -> Self {
        let mut all = Self::default();
        all.add(&parse(root), vec![], root.parent().unwrap());
        all
    }

    /// `dir` holds the files of the module's children.
    fn add(&mut self, items: &[Item], at: Segments, dir: &Path) {
        let mut scan = Scan { at: at.clone(), module: Module::default(), children: vec![] };
        items.iter().for_each(|item| scan.visit_item(item));
        self.0.insert(at.clone(), scan.module);
        for child in scan.children {
            let name = child.ident.to_string();
            let below = [at.clone(), vec![name.clone()]].concat();
            let dir = dir.join(&name);
            match child.content {
                Some((_, items)) => self.add(&items, below, &dir),
                None => {
                    let flat = dir.with_extension("rs");
                    let file = if flat.exists() { flat } else { dir.join("mod.rs") };
                    self.add(&parse(&file), below, &dir);
                }
            }
        }
    }

    /// The module in which what a path names is declared.
    fn owner(&self, path: &[String], depth: usize) -> Segments {
        let mut at = vec![];
        for (number, segment) in path.iter().enumerate() {
            let below = [at.as_slice(), std::slice::from_ref(segment)].concat();
            if self.0.contains_key(&below) {
                at = below;
                continue;
            }
            let import = self.0[&at].imports.get(segment).filter(|_| depth < 8);
            return match import {
                Some(target) => self.owner(&[target, &path[number + 1..]].concat(), depth + 1),
                None => at,
            };
        }
        at
    }

    /// For each parent, which of its children use which others.
    fn siblings(&self) -> BTreeMap<Segments, Uses> {
        let mut uses: BTreeMap<Segments, Uses> = BTreeMap::new();
        for (at, module) in &self.0 {
            for path in module.named.iter().chain(module.imports.values()) {
                let owner = self.owner(path, 0);
                let shared = at.iter().zip(&owner).take_while(|(a, b)| a == b).count();
                if let (Some(user), Some(used)) = (at.get(shared), owner.get(shared)) {
                    let parent = uses.entry(at[..shared].to_vec()).or_default();
                    parent.entry(user.clone()).or_default().insert(used.clone());
                }
            }
        }
        uses
    }

    /// Groups of siblings that reach each other.
    fn circles(&self) -> Vec<Circle> {
        let mut found = vec![];
        for (parent, uses) in self.siblings() {
            let reached: BTreeMap<_, _> =
                uses.keys().map(|from| (from, reach(&uses, from))).collect();
            let mut groups = BTreeSet::new();
            for (from, seen) in &reached {
                let back = |to: &&String| reached.get(to).is_some_and(|seen| seen.contains(from));
                let group: Vec<_> = seen.iter().copied().filter(back).cloned().collect();
                if group.len() > 1 {
                    groups.insert(group);
                }
            }
            found.extend(groups.into_iter().map(|modules| Circle {
                parent: parent.join("::"),
                uses: within(&uses, &modules),
                modules,
            }));
        }
        found
    }
}

fn reach<'a>(uses: &'a BTreeMap<String, BTreeSet<String>>, from: &String) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<&String> = uses[from].iter().collect();
    while let Some(next) = todo.pop() {
        if seen.insert(next) {
            todo.extend(uses.get(next).into_iter().flatten());
        }
    }
    seen
}

fn within(uses: &Uses, modules: &[String]) -> Vec<String> {
    let inside = |user: &String| {
        let used: Vec<_> = uses[user].iter().filter(|used| modules.contains(used)).collect();
        used.into_iter().map(|used| format!("{user} uses {used}")).collect::<Vec<_>>()
    };
    modules.iter().flat_map(inside).collect()
}

fn parse(file: &Path) -> Vec<Item> {
    let text = fs::read_to_string(file).unwrap();
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).items
}

/// Collects what the items of one module name.
struct Scan {
    at: Segments,
    module: Module,
    children: Vec<ItemMod>,
}

impl Scan {
    /// The path from the crate's root, of one that begins at it or at an
    /// ancestor, or, in an import, at a child.
    fn absolute(&self, path: Segments) -> Option<Segments> {
        let mut at = self.at.clone();
        let mut rest = path.as_slice();
        loop {
            match rest.first()?.as_str() {
                "crate" => at.clear(),
                "super" => at.truncate(at.len().checked_sub(1)?),
                "self" => {}
                _ => break,
            }
            rest = &rest[1..];
        }
        Some([&at, rest].concat())
    }

    fn name(&mut self, path: Segments) {
        if matches!(path.first().map(String::as_str), Some("crate" | "super")) {
            self.module.named.extend(self.absolute(path));
        }
    }

    fn import(&mut self, tree: &UseTree, before: &Segments) {
        let joined = |name: String| [before.as_slice(), &[name]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &joined(path.ident.to_string())),
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.import(item, before));
            }
            UseTree::Glob(_) => self.name(before.clone()),
            UseTree::Name(name) if name.ident == "self" => {
                let path = self.absolute(before.clone());
                self.module.imports.extend(before.last().cloned().zip(path));
            }
            UseTree::Name(name) => {
                let path = self.absolute(joined(name.ident.to_string()));
                self.module.imports.extend(path.map(|path| (name.ident.to_string(), path)));
            }
            UseTree::Rename(name) => {
                let path = self.absolute(joined(name.ident.to_string()));
                self.module.imports.extend(path.map(|path| (name.rename.to_string(), path)));
            }
        }
    }

    /// Paths in what a macro is called with.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = vec![];
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 || path.is_empty() => {
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) => {
                    self.name(std::mem::replace(&mut path, vec![ident.to_string()]));
                    colons = 0;
                    continue;
                }
                _ => {}
            }
            self.name(std::mem::take(&mut path));
            colons = 0;
        }
        self.name(path);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'a> Visit<'a> for Scan {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &vec![],
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        self.children.push(item.clone());
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.import(&item.tree, &vec![]);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.name(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'a syn::Macro) {
        self.tokens(called.tokens.clone());
    }
}

#[test]
fn modules_form_no_circles() {
    let mut known: Vec<_> = CIRCLES.to_vec();
    let mut offences = vec![];
    for root in roots() {
        for Circle { parent, modules, uses } in Modules::read(&tree().join(&root)).circles() {
            match known.iter().position(|(r, p, m)| *r == root && *p == parent && modules == *m) {
                Some(at) => drop(known.remove(at)),
                None => offences.push(format!(
                    "({root:?}, {parent:?}, &{modules:?}),\n    {}",
                    uses.join("\n    ")
                )),
            }
        }
    }
    none(offences, "modules use each other in a circle");
    let gone = known.iter().map(|circle| format!("{circle:?}")).collect();
    none(gone, "these circles are dissolved: remove them from CIRCLES");
}

/// Root files of all crates outside of `tests/`.
fn roots() -> Vec<String> {
    let all = source::files(".rs");
    let roots = all.iter().filter_map(|path| {
        let at = path.strip_prefix(tree()).unwrap().to_str().unwrap();
        let is_root = at.ends_with("src/lib.rs")
            || (at.ends_with("src/main.rs") && !path.with_file_name("lib.rs").exists())
            || (at.contains("src/bin/") && at.ends_with("/main.rs"));
        (is_root && !at.starts_with("tests/")).then(|| at.to_owned())
    });
    roots.collect()
}
