//! The web console in a real Chromium: what its users see and do, and what other sites do not get.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accessibility;
mod chromium;
mod console;
mod driver;
mod idle;
mod keyboard;
mod other_site;
mod pages;
mod screenshots;
mod showcase;
mod tour;
