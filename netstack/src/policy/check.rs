use std::collections::HashMap;

use super::class::ClassName;
use super::document::{Action, Document, Other, Resolvers, Rule, Sni, Stance};
use super::finding::{Finding, Step, at, in_rule};
use super::matcher::CLUSTER;
use super::{Direction, Protocol, shadow};

/// Most rules of a file: what is compared with each other at load, and kept in
/// every pod's memory.
pub const MAX_RULES: usize = 20_000;
/// Most entries of one list, and of all lists of a file together.
pub const MAX_ENTRIES: usize = 4096;
/// Most entries of all lists of a file together: what the index holds.
pub const MAX_ALL_ENTRIES: usize = 200_000;
/// Longest id: it stands in every line of the audit.
const MAX_ID: usize = 128;
/// Longest time that a binding may live, a week: a later answer must count.
const MAX_SECONDS: u32 = 7 * 86_400;

/// Looks for what parses and cannot be meant.
pub(super) fn check(file: &Document, warnings: &mut Vec<Finding>) -> Result<(), Finding> {
    if file.version != 1 {
        let what = format!("version {} is not known; write version = 1", file.version);
        return Err(at([Step::Key("version")], what));
    }
    if file.rules.len() > MAX_RULES {
        let what = format!("{} rules; at most {MAX_RULES} are taken", file.rules.len());
        return Err(at([Step::Key("rule")], what));
    }
    dns(file)?;
    classes(file)?;
    let mut entries = 0;
    let mut ids = HashMap::new();
    for (index, rule) in file.rules.iter().enumerate() {
        identity(index, rule, &mut ids)?;
        entries += lists(index, rule)?;
        meaning(index, rule, file)?;
    }
    if entries > MAX_ALL_ENTRIES {
        let what = format!("{entries} entries in all lists; at most {MAX_ALL_ENTRIES} are taken");
        return Err(at([Step::Key("rule")], what));
    }
    shadow::check(file, warnings)?;
    advise(file, warnings);
    Ok(())
}

const EMPTY: &str = "the list is empty and so matches nothing; leave the key out to mean any";

fn dns(file: &Document) -> Result<(), Finding> {
    let dns = &file.dns;
    let key = |key| [Step::Key("dns"), Step::Key(key)];
    if let Resolvers::Listed(list) = &dns.resolvers {
        if list.is_empty() {
            let what = "the list is empty, so no name could ever be learnt; write \"pod\" for \
                        the pod's own servers";
            return Err(at(key("resolvers"), what));
        }
        length(list.len()).map_err(|what| at(key("resolvers"), what))?;
    }
    length(dns.private_names.len()).map_err(|what| at(key("private_names"), what))?;
    for (name, seconds) in [("max_ttl", dns.max_ttl), ("grace", dns.grace)] {
        if seconds > MAX_SECONDS {
            let what = format!("{seconds} seconds is too long; write at most {MAX_SECONDS}");
            return Err(at(key(name), what));
        }
    }
    if dns.min_ttl > dns.max_ttl {
        let what =
            format!("{} is more than max_ttl, which is {}; write less", dns.min_ttl, dns.max_ttl);
        return Err(at(key("min_ttl"), what));
    }
    Ok(())
}

fn classes(file: &Document) -> Result<(), Finding> {
    length(file.classes.len()).map_err(|what| at([Step::Key("classes")], what))?;
    for (name, networks) in &file.classes {
        let finding = |what: String| at([Step::Key("classes"), Step::Own(name.clone())], what);
        match ClassName::try_from(name.clone()) {
            Ok(ClassName::Own(_)) => {}
            Ok(ClassName::BuiltIn(_)) => {
                let what = format!("`{name}` is built in; take another name");
                return Err(finding(what));
            }
            Err(error) => return Err(finding(error.to_string())),
        }
        if networks.is_empty() {
            return Err(finding("the list is empty; leave the class out".to_owned()));
        }
        length(networks.len()).map_err(finding)?;
    }
    Ok(())
}

fn identity<'a>(
    index: usize,
    rule: &'a Rule,
    ids: &mut HashMap<&'a str, usize>,
) -> Result<(), Finding> {
    let id = rule.id.as_str();
    if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
        let what = format!("an id has 1 to {MAX_ID} bytes and no control characters");
        return Err(in_rule(index, "id", what));
    }
    match ids.insert(id, index) {
        Some(first) => {
            let what = format!("rule {} has this id already; take another", first + 1);
            Err(in_rule(index, "id", what))
        }
        None => Ok(()),
    }
}

/// Checks the lengths of a rule's lists, and answers their sum.
fn lists(index: usize, rule: &Rule) -> Result<usize, Finding> {
    let lists = [
        ("proto", rule.proto.as_ref().map(Vec::len)),
        ("ports", rule.ports.as_ref().map(Vec::len)),
        ("cidr", rule.cidr.as_ref().map(Vec::len)),
        ("except", rule.except.as_ref().map(Vec::len)),
        ("class", rule.class.as_ref().map(Vec::len)),
        ("name", rule.name.as_ref().map(Vec::len)),
    ];
    let mut sum = 1;
    for (key, count) in lists {
        match count {
            Some(0) => return Err(in_rule(index, key, EMPTY)),
            Some(count) => {
                length(count).map_err(|what| in_rule(index, key, what))?;
                sum += count;
            }
            None => {}
        }
    }
    Ok(sum)
}

fn length(count: usize) -> Result<(), String> {
    match count > MAX_ENTRIES {
        true => Err(format!("{count} entries; at most {MAX_ENTRIES} are taken")),
        false => Ok(()),
    }
}

fn meaning(index: usize, rule: &Rule, file: &Document) -> Result<(), Finding> {
    let speaks_icmp = rule.proto.iter().flatten().any(|proto| *proto == Protocol::Icmp);
    if rule.ports.is_some() && speaks_icmp {
        let what = "icmp has no ports; give it a rule of its own without `ports`";
        return Err(in_rule(index, "ports", what));
    }
    if rule.dir == Direction::Ingress && rule.name.is_some() {
        let what = "names are learnt for what the pod reaches, not for who reaches it; write \
                    `cidr` or `class`";
        return Err(in_rule(index, "name", what));
    }
    if rule.sni == Sni::Check {
        let what = "comparing the server name of TLS is not supported; leave `sni` out";
        return Err(in_rule(index, "sni", what));
    }
    for except in rule.except.iter().flatten() {
        let is_inside =
            rule.cidr.as_ref().is_none_or(|own| own.iter().any(|net| net.covers(except)));
        if !is_inside {
            let what = format!("{except} is in no network of `cidr` and so excludes nothing");
            return Err(in_rule(index, "except", what));
        }
    }
    for class in rule.class.iter().flatten() {
        if let ClassName::Own(name) = class
            && name != CLUSTER
            && !file.classes.contains_key(name)
        {
            let what = format!("unknown class `{name}`: list its networks under [classes]");
            return Err(in_rule(index, "class", what));
        }
    }
    Ok(())
}

/// Says what holds less than it looks.
fn advise(file: &Document, warnings: &mut Vec<Finding>) {
    let opens_all = |rule: &Rule| {
        rule.dir == Direction::Egress
            && rule.action == Action::Allow
            && rule.name.is_none()
            && (rule.cidr.is_none() || rule.cidr.iter().flatten().any(|net| net.length() == 0))
    };
    let is_open = file.defaults.egress == Stance::Allow || file.rules.iter().any(opens_all);
    for (index, rule) in file.rules.iter().enumerate() {
        let by_name_alone = rule.name.is_some() && rule.cidr.is_none() && rule.class.is_none();
        if rule.action == Action::Deny && by_name_alone && is_open {
            let what = "advisory: what the name leads to stays open to who dials its address \
                        without asking for the name; deny its networks with `cidr` too, or \
                        everything by default";
            warnings.push(in_rule(index, "name", what));
        }
    }
    let has_names = file.rules.iter().any(|rule| rule.name.is_some());
    if has_names && file.dns.other == Some(Other::Rules) {
        let what = "advisory: answers of other servers teach no names, so what they lead to is \
                    reached only by rules for addresses";
        warnings.push(at([Step::Key("dns"), Step::Key("other")], what));
    }
}
