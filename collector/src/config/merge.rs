//! Several configs become one: maps join, everything else is replaced by what comes later.

use phoenix_pipeline::config::{Key, Kind, Mark, Mistake, Value, parse_on};

/// Lays `over` onto `base`. Lists are replaced; `null` replaces a map and so erases it.
pub(super) fn merge(base: &mut Value, over: Value) {
    match (&mut base.kind, over) {
        (Kind::Map(entries), Value { kind: Kind::Map(more), .. }) => {
            for (key, value) in more {
                match entries.iter_mut().find(|(known, _)| known.name == key.name) {
                    Some((known, old)) => {
                        if !matches!((&old.kind, &value.kind), (Kind::Map(_), Kind::Map(_))) {
                            known.mark = key.mark;
                        }
                        merge(old, value);
                    }
                    None => entries.push((key, value)),
                }
            }
        }
        (_, over) => *base = over,
    }
}

/// `a`, `b`, value becomes `a: {b: value}`.
pub(super) fn nest<'k, K>(keys: K, mark: &Mark, value: Value) -> Value
where
    K: IntoIterator<Item = &'k str, IntoIter: DoubleEndedIterator>,
{
    keys.into_iter().rev().fold(value, |inner, name| {
        let key = Key { mark: mark.clone(), name: name.to_owned() };
        Value::new(mark.clone(), Kind::Map(vec![(key, inner)]))
    })
}

/// A `--set PATH=VALUE` as a config of one value. The path's keys stand between dots, or, if it has any `::`, between
/// those, so that keys with dots can be named; the value is YAML.
pub(super) fn setting(text: &str) -> (Option<Value>, Vec<Mistake>) {
    let Some((path, value)) = text.split_once('=') else {
        return (None, vec![Mistake::new(Mark::new("--set", 0, 0), "", "write --set path.to.key=value")]);
    };
    let mark = Mark::new(format!("--set {path}"), 0, 0);
    let keys: Vec<&str> = if path.contains("::") { path.split("::").collect() } else { path.split('.').collect() };
    if keys.iter().any(|key| key.is_empty()) {
        return (None, vec![Mistake::new(mark, "", "the path has an empty key; write --set path.to.key=value")]);
    }
    let flat = |found: &Mark| Mark { file: mark.file.clone(), line: 0, column: 0, origin: found.origin.clone() };
    let (value, mistakes) = parse_on(&mark.file, value);
    let value = value.map(|mut value| {
        remark(&mut value, &flat);
        nest(keys, &mark, value)
    });
    (value, mistakes.into_iter().map(|mistake| Mistake { mark: flat(&mistake.mark), ..mistake }).collect())
}

/// Gives every mark of a tree a new form.
pub(super) fn remark(value: &mut Value, change: &dyn Fn(&Mark) -> Mark) {
    value.mark = change(&value.mark);
    match &mut value.kind {
        Kind::Seq(items) => items.iter_mut().for_each(|item| remark(item, change)),
        Kind::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
            key.mark = change(&key.mark);
            remark(value, change);
        }),
        _ => {}
    }
}
