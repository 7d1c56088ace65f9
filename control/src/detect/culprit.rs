//! Names who makes the new series.

/// A metric, attribute or executable, and the share of the new series that it causes.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit {
    /// The metric.
    pub metric: String,
    /// The attribute's key.
    pub attribute: String,
    /// The executable.
    pub executable: String,
    /// New series.
    pub new: f64,
    /// Part of all new series, 0 to 1.
    pub share: f64,
}

/// Those that cause at least a tenth of all new series, most first, ties by name. `counts` holds metric, attribute,
/// executable and new series; what is no number counts as none.
pub fn culprits<'a>(counts: impl IntoIterator<Item = (&'a str, &'a str, &'a str, f64)>) -> Vec<Culprit> {
    let counts: Vec<_> = counts.into_iter().filter(|(.., new)| new.is_finite() && *new > 0.0).collect();
    let all: f64 = counts.iter().map(|(.., new)| new).sum();
    let mut found: Vec<Culprit> = counts
        .into_iter()
        .map(|(metric, attribute, executable, new)| Culprit {
            metric: metric.to_owned(),
            attribute: attribute.to_owned(),
            executable: executable.to_owned(),
            new,
            share: new / all,
        })
        .filter(|culprit| culprit.share >= 0.1)
        .collect();
    found.sort_by(|a, b| {
        let names = |c: &Culprit| (c.metric.clone(), c.attribute.clone(), c.executable.clone());
        b.new.total_cmp(&a.new).then_with(|| names(a).cmp(&names(b)))
    });
    found
}
