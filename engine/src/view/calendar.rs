//! Windows as calendars have them: days and months of a zone, where a day may have 23 hours or 25.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

use crate::ids::{CALENDAR, Micros};
use crate::spec::{Calendar, CalendarLength};

/// A Monday.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 5).expect("it is a date");

impl Calendar {
    /// The start of the window that an instant lies in.
    pub fn start_of(&self, instant: Micros) -> Micros {
        self.bounds_around(instant).0
    }

    /// The end of that window.
    pub fn end_of(&self, instant: Micros) -> Micros {
        self.bounds_around(instant).1
    }

    /// Both. Beyond the years that are told all is the first window, or the last.
    pub fn bounds_around(&self, instant: Micros) -> (Micros, Micros) {
        let instant = instant.clamp(*CALENDAR.start(), *CALENDAR.end());
        // Clocks that are set back over midnight show one day's date on two of them.
        let mut number = self.number_of(self.date_at(instant));
        while self.start(number) > instant {
            number -= 1;
        }
        while self.start(number + 1) <= instant {
            number += 1;
        }
        (self.start(number), self.start(number + 1))
    }

    fn date_at(&self, instant: Micros) -> NaiveDate {
        let utc = utc(instant);
        (utc + self.zone.offset_from_utc_datetime(&utc).fix()).date()
    }

    fn number_of(&self, date: NaiveDate) -> i64 {
        match self.length {
            CalendarLength::Days(days) => (date - FIRST_DAY).num_days().div_euclid(i64::from(days)),
            CalendarLength::Months(months) => {
                (i64::from(date.year()) * 12 + i64::from(date.month0())).div_euclid(i64::from(months))
            }
        }
    }

    /// When a window starts, by its number.
    fn start(&self, number: i64) -> Micros {
        let date = match self.length {
            CalendarLength::Days(days) => {
                let days = number * i64::from(days);
                let distance = Days::new(days.unsigned_abs());
                if days < 0 { FIRST_DAY - distance } else { FIRST_DAY + distance }
            }
            CalendarLength::Months(months) => {
                let months = number * i64::from(months) - 1970 * 12;
                let first = NaiveDate::default();
                let distance = Months::new(months.unsigned_abs() as u32);
                if months < 0 { first - distance } else { first + distance }
            }
        };
        first_instant(self.zone, date)
    }
}

impl CalendarLength {
    pub fn days_at_most(&self) -> i64 {
        match *self {
            CalendarLength::Days(days) => i64::from(days),
            CalendarLength::Months(months) => i64::from(months) * 31,
        }
    }
}

fn utc(instant: Micros) -> chrono::NaiveDateTime {
    DateTime::from_timestamp_micros(instant).expect("the instant is of the calendar").naive_utc()
}

/// When clocks show a date for the first time: not at midnight where they are set forward then.
fn first_instant(zone: Tz, date: NaiveDate) -> Micros {
    let midnight = date.and_time(NaiveTime::MIN);
    if let Some(instant) = zone.from_local_datetime(&midnight).earliest() {
        return instant.timestamp_micros();
    }
    let shows_it =
        |instant: chrono::NaiveDateTime| instant + zone.offset_from_utc_datetime(&instant).fix() >= midnight;
    let (mut before, mut after) = (midnight - TimeDelta::hours(30), midnight + TimeDelta::hours(30));
    while after - before > TimeDelta::seconds(1) {
        let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
        if shows_it(middle) { after = middle } else { before = middle }
    }
    after.and_utc().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Micros = 3_600_000_000;

    fn at(text: &str) -> Micros {
        DateTime::parse_from_rfc3339(text).expect("it is a moment").timestamp_micros()
    }

    fn days(days: i32, zone: Tz) -> Calendar {
        Calendar { length: CalendarLength::Days(days), zone }
    }

    fn months(months: i32, zone: Tz) -> Calendar {
        Calendar { length: CalendarLength::Months(months), zone }
    }

    #[test]
    fn a_day_is_what_clocks_make_it() {
        let berlin = days(1, Tz::Europe__Berlin);
        let short = berlin.bounds_around(at("2025-03-30T12:00:00Z"));
        assert_eq!(short, (at("2025-03-29T23:00:00Z"), at("2025-03-30T22:00:00Z")));
        let long = berlin.bounds_around(at("2025-10-26T00:30:00Z"));
        assert_eq!((long.1 - long.0) / HOUR, 25);
    }

    #[test]
    fn weeks_begin_on_monday_and_quarters_in_january() {
        let week = days(7, Tz::UTC).bounds_around(at("2025-06-01T23:59:59Z"));
        assert_eq!(week, (at("2025-05-26T00:00:00Z"), at("2025-06-02T00:00:00Z")));
        let quarter = months(3, Tz::UTC).bounds_around(at("1969-12-31T23:59:59Z"));
        assert_eq!(quarter, (at("1969-10-01T00:00:00Z"), at("1970-01-01T00:00:00Z")));
        let month = months(1, Tz::America__New_York).bounds_around(at("2025-03-01T04:59:59Z"));
        assert_eq!(month, (at("2025-02-01T05:00:00Z"), at("2025-03-01T05:00:00Z")));
    }

    #[test]
    fn a_day_without_midnight_begins_when_clocks_first_show_it() {
        // Clocks went from 2018-11-03 23:59:59 to 2018-11-04 01:00:00.
        let sao_paulo = days(1, Tz::America__Sao_Paulo);
        let day = sao_paulo.bounds_around(at("2018-11-04T12:00:00Z"));
        assert_eq!(day, (at("2018-11-04T03:00:00Z"), at("2018-11-05T02:00:00Z")));
    }

    #[test]
    fn windows_lie_side_by_side() {
        let zones =
            [Tz::UTC, Tz::Europe__Berlin, Tz::America__Sao_Paulo, Tz::Asia__Beirut, Tz::Pacific__Apia];
        for zone in zones {
            for calendar in [days(1, zone), days(7, zone), days(10, zone), months(1, zone), months(3, zone)] {
                let mut instant = at("2009-12-20T00:00:00Z");
                while instant < at("2019-12-01T00:00:00Z") {
                    let (start, end) = calendar.bounds_around(instant);
                    assert!(start <= instant && instant < end, "{instant} in {calendar:?}");
                    assert_eq!(calendar.bounds_around(start), (start, end));
                    assert_eq!(calendar.bounds_around(end - 1), (start, end));
                    assert_eq!(calendar.start_of(end), end);
                    instant = end;
                }
            }
        }
    }

    #[test]
    fn the_ends_of_time_lie_in_some_window() {
        for calendar in [days(7, Tz::Pacific__Apia), months(12, Tz::America__Sao_Paulo)] {
            for instant in [Micros::MIN, *CALENDAR.start(), *CALENDAR.end(), Micros::MAX] {
                let (start, end) = calendar.bounds_around(instant);
                assert!(start < end);
            }
        }
    }
}
