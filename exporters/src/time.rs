//! Unix times as text: for people, and for the names of rotated files. Always UTC.

/// The parts of a Unix time: year, month, day, hour, minute, second.
fn civil(seconds: u64) -> (i64, u32, u32, u64, u64, u64) {
    // Howard Hinnant's days-to-civil: years begin in March, so that a leap day is the last of its year.
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let second = seconds % 86_400;
    (year, month, day, second / 3_600, second / 60 % 60, second % 60)
}

/// `2020-02-11 20:26:12.000000321 +0000 UTC`, the way Go prints a time. Unix nanoseconds.
pub(crate) fn timestamp(nanos: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(nanos / 1_000_000_000);
    let fraction = nanos % 1_000_000_000;
    let fraction =
        if fraction == 0 { String::new() } else { format!(".{fraction:09}").trim_end_matches('0').to_owned() };
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC")
}

/// `2020-02-11T20:26:12.123Z`. Unix nanoseconds.
pub(crate) fn rfc3339(nanos: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(nanos / 1_000_000_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", nanos / 1_000_000 % 1_000)
}

/// `data-2022-09-14T05-02-14.173`: the part of a rotated file's name that says when. Unix nanoseconds.
pub(crate) fn file_stamp(nanos: u64) -> String {
    rfc3339(nanos).trim_end_matches('Z').replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil() {
        assert_eq!(timestamp(1_581_452_772_000_000_321), "2020-02-11 20:26:12.000000321 +0000 UTC");
        assert_eq!(timestamp(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(timestamp(951_782_400_500_000_000), "2000-02-29 00:00:00.5 +0000 UTC");
        assert_eq!(rfc3339(1_663_131_734_173_000_000), "2022-09-14T05:02:14.173Z");
        assert_eq!(file_stamp(1_663_131_734_173_000_000), "2022-09-14T05-02-14.173");
        assert!(timestamp(u64::MAX).starts_with("2554-07-21"));
    }
}
