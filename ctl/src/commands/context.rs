//! `context`: which of several logins is used. The one in use is in the configuration file, the others beside it.

use serde_json::json;

use super::Ctx;
use crate::{
    args::login::Context,
    config::{self, Login},
    error::{Error, Exit, Result},
    keyring, moment,
    output::{clean, human, table::Table},
};

/// `dockctl context ...`.
pub(crate) async fn run(ctx: &Ctx, args: Context) -> Result<()> {
    let path = ctx.session.path()?;
    let _lock = config::lock(path).await?;
    let used = config::read(path)?.login;
    let mut others = config::others(path)?;
    match args {
        Context::Ls => {
            let used = used.as_ref().map(|login| (login, true));
            let all: Vec<_> =
                used.into_iter().chain(others.values().map(|login| (login, false))).collect();
            let value = all.iter().map(|(login, is_used)| {
                json!({
                    "name": login.context,
                    "url": login.url,
                    "username": login.username,
                    "used": is_used,
                    "logged_in": !login.has_ended(moment::now()),
                })
            });
            let value = value.collect::<Vec<_>>().into();
            ctx.show_value(|| Ok(value), || table(&all, moment::now()).show(ctx.term))
        }
        Context::Use { name } => {
            if used.as_ref().is_some_and(|login| login.context == name) {
                ctx.term.notice(&format!("{} is in use already", clean(&name)));
                return Ok(());
            }
            let next = others.remove(&name).ok_or_else(|| unknown(&name))?;
            others.extend(used.map(|login| (login.context.clone(), login)));
            // In this order, so that a crash between the two loses none.
            let mut both = others.clone();
            both.insert(name, next.clone());
            config::write_others(path, &both)?;
            config::write(path, Some(&next))?;
            config::write_others(path, &others)?;
            let ended = match next.has_ended(moment::now()) {
                true => "; log in again",
                false => "",
            };
            ctx.term.notice(&format!("using {} as {}{ended}", next.url, next.username));
            Ok(())
        }
        Context::Rm { name } => {
            let forgotten = match used.filter(|login| login.context == name) {
                Some(login) => {
                    config::write(path, None)?;
                    login
                }
                None => {
                    let login = others.remove(&name).ok_or_else(|| unknown(&name))?;
                    config::write_others(path, &others)?;
                    login
                }
            };
            keyring::forget(&forgotten);
            ctx.term.notice(&format!("forgot {}", clean(&name)));
            Ok(())
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::new(Exit::NotFound, format!("there is no context {:?}", clean(name)))
        .hint("see which there are: dockctl context ls")
        .hint("`dockctl login` makes one: dockctl login URL --username USER --context NAME")
}

fn table(logins: &[(&Login, bool)], now: i64) -> Table {
    let mut table = Table::new(&["", "NAME", "URL", "USER", "LOGIN"]).giving_way(&[2]);
    for (login, is_used) in logins {
        let state = match login.has_ended(now) {
            true => "ended".to_owned(),
            false => format!("ends in {}", human::short_span(login.refresh_expires_at - now)),
        };
        table.row(vec![
            if *is_used { "*" } else { "" }.into(),
            login.context.as_str().into(),
            login.url.as_str().into(),
            login.username.as_str().into(),
            state.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_marks_the_one_in_use() {
        let login = |context: &str, refresh_expires_at| Login {
            context: context.to_owned(),
            url: format!("https://{context}:7443"),
            username: "ada".to_owned(),
            refresh_expires_at,
            ..Login::default()
        };
        let (prod, lab) = (login("prod", 7_300), login("lab", 0));
        assert_eq!(
            table(&[(&prod, true), (&lab, false)], 100).render(false),
            "    NAME   URL                 USER   LOGIN\n\
             *   prod   https://prod:7443   ada    ends in 2h\n    \
             lab    https://lab:7443    ada    ended\n"
        );
    }
}
