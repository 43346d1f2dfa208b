//! Statements against specs, and the words of refusals.

mod streams;
