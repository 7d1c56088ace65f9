//! Names who makes the new series.

/// Who makes series: the value of an attribute that names one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Maker {
    /// The attribute.
    pub name_of: String,
    /// Its value.
    pub name: String,
}

/// Part of the new series below which nobody is named.
const LEAST: f64 = 0.1;

/// A metric, the attribute that tells its series apart, who makes them, and the share of all new series that these are.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit {
    /// The metric.
    pub metric: String,
    /// The attribute's key.
    pub attribute: String,
    /// Who makes them, where that is known.
    pub maker: Option<Maker>,
    /// New series.
    pub new: f64,
    /// Part of all new series, 0 to 1.
    pub share: f64,
}

/// Those that cause at least a tenth of all new series, most first, ties by name. `counts` holds metric, attribute, maker and
/// new series; what is no number counts as none.
pub fn culprits<'a>(counts: impl IntoIterator<Item = (&'a str, &'a str, Option<Maker>, f64)>) -> Vec<Culprit> {
    let counts: Vec<_> = counts.into_iter().filter(|(.., new)| new.is_finite() && *new > 0.0).collect();
    let all: f64 = counts.iter().map(|(.., new)| new).sum();
    let mut found: Vec<Culprit> = counts
        .into_iter()
        .map(|(metric, attribute, maker, new)| Culprit {
            metric: metric.to_owned(),
            attribute: attribute.to_owned(),
            maker,
            new,
            share: new / all,
        })
        .filter(|culprit| culprit.share >= LEAST)
        .collect();
    found.sort_by(|a, b| {
        let names = |c: &Culprit| (c.metric.clone(), c.attribute.clone(), c.maker.clone());
        b.new.total_cmp(&a.new).then_with(|| names(a).cmp(&names(b)))
    });
    found
}
