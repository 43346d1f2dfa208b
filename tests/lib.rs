//! What end-to-end tests share: the servers they run against.

pub mod servers;

#[cfg(test)]
mod tidy;
