//! What of a view closes at once, as plain values.

use chrono_tz::Tz;

use crate::ids::Micros;

/// What closes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Window(Window),
    /// A session of one key.
    Session(Session),
    /// Everything since the view was born; it never closes.
    Ever(Ever),
}

/// What bounds a view that never closes, and tells the lake of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ever {
    /// A group leaves when no row of it has come for so long, by event time: it is kept as a session is, whose gap that is.
    pub keep: Option<Micros>,
    /// How often at most the lake gets all rows anew, by the wall's clock; it gets none without.
    pub snapshot: Option<Micros>,
}

impl Unit {
    /// By which its rows are kept, where they are by key.
    pub fn session(self) -> Option<Session> {
        match self {
            Unit::Window(_) | Unit::Ever(Ever { keep: None, .. }) => None,
            Unit::Session(session) => Some(session),
            Unit::Ever(Ever { keep: Some(gap), .. }) => Some(Session { gap, longest: Micros::MAX }),
        }
    }
}

/// Rows of one key, each within the gap of the one before; one exactly a gap later begins the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub gap: Micros,
    /// One that goes on for about so long is cut, and its next row begins another. At least twice the gap.
    pub longest: Micros,
}

/// Which windows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub layout: Layout,
    /// Rows were expanded per window below the cut, because something there looks at the window: then a pane is a
    /// whole window, and the window columns of a state are right as they are.
    pub expanded: bool,
}

/// How windows lie along the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Windows of `size`, one starting every `slide`, one of them at `offset` (below `slide`) after 1970. `slide == size`
    /// is TUMBLE.
    Hop { size: Micros, slide: Micros, offset: Micros },
    /// From each start, a `size` apart, windows of one `step`, two, and so on up to the size, which is whole steps.
    Cumulate { size: Micros, step: Micros, offset: Micros },
    /// Days or months as the clocks of a zone have them, one after the other.
    Calendar(Calendar),
}

/// Windows side by side whose lengths differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Calendar {
    pub length: CalendarLength,
    pub zone: Tz,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CalendarLength {
    /// Counted from Monday, the fifth of January 1970, so that seven are a week.
    Days(i32),
    /// Counted from January, so that three are a quarter.
    Months(i32),
}
