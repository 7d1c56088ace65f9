//! The small types that metrics and points are described by.

/// The type of a metric's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// A metric without data.
    #[default]
    None,
    /// Last values.
    Gauge,
    /// Sums, monotonic or not.
    Sum,
    /// Histograms with explicit bounds.
    Histogram,
    /// Histograms with exponential bounds.
    ExponentialHistogram,
    /// Quantiles.
    Summary,
}

impl MetricKind {
    /// The number of the data field in `Metric`; 0 for none.
    pub fn field(self) -> u32 {
        match self {
            MetricKind::None => 0,
            MetricKind::Gauge => 5,
            MetricKind::Sum => 7,
            MetricKind::Histogram => 9,
            MetricKind::ExponentialHistogram => 10,
            MetricKind::Summary => 11,
        }
    }

    /// The number of the attributes field in the kind's points.
    #[inline]
    pub fn attributes_field(self) -> u32 {
        match self {
            MetricKind::Histogram => 9,
            MetricKind::ExponentialHistogram => 1,
            _ => 7,
        }
    }

    /// The number of the flags field in the kind's points.
    pub fn flags_field(self) -> u32 {
        match self {
            MetricKind::Histogram | MetricKind::ExponentialHistogram => 10,
            _ => 8,
        }
    }

    /// The number of the exemplars field in the kind's points; 0 for none.
    pub(crate) fn exemplars_field(self) -> u32 {
        match self {
            MetricKind::Gauge | MetricKind::Sum => 5,
            MetricKind::Histogram => 8,
            MetricKind::ExponentialHistogram => 11,
            MetricKind::None | MetricKind::Summary => 0,
        }
    }
}

/// What the values of a sum or histogram count from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Not said, or a value the specification does not know.
    #[default]
    Unspecified,
    /// Since the point before.
    Delta,
    /// Since the start time.
    Cumulative,
}

impl Temporality {
    pub(crate) fn from_wire(value: u64) -> Self {
        match value as u32 {
            1 => Temporality::Delta,
            2 => Temporality::Cumulative,
            _ => Temporality::Unspecified,
        }
    }
}

/// The value of a number point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A signed integer.
    Int(i64),
    /// A double.
    Double(f64),
}

impl Number {
    /// The value as a double; integers beyond 2^53 lose their last digits.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Double(value) => value,
        }
    }

    /// The bits that a point holds it in.
    #[inline]
    pub fn bits(self) -> u64 {
        match self {
            Number::Int(value) => value as u64,
            Number::Double(value) => value.to_bits(),
        }
    }
}
