//! The controller of a fleet of Docker hosts. Data flows from left to right, and nothing imports
//! leftwards: [`edge`] (ports) → [`guard`] (who may) → [`app`] (nouns) → [`fleet`] (which agent) → the
//! link; [`store`] and [`ca`] stand beside. [`run`] puts them together.

pub mod app;
pub mod ca;
pub mod certificates;
pub mod edge;
pub mod error;
pub mod fleet;
pub mod guard;
pub mod https;
pub mod run;
pub mod store;
