//! A session with a program on a host: the terminal's keys, size and signals go up, its output comes
//! down. `exec` and `attach` open one; here is what they share.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending},
};

use bytes::Bytes;
use dockctl_api::v1::{
    AttachRequest, AttachResponse, ExecRequest, ExecResponse, TerminalSize, attach_request,
    attach_response, exec_request, exec_response,
};
use futures_util::stream::BoxStream;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tonic::{Response, Status, Streaming};

use crate::{
    client::Channel,
    commands::Ctx,
    error::{Error, Exit, Result},
    output::{
        Term,
        printer::{Printer, To},
    },
    session::Open,
    terminal::{self, Input, Raw},
};

/// Messages on their way up, of 64 KiB at most.
const QUEUE: usize = 2;

/// What goes up.
pub(crate) enum Up {
    Stdin(Bytes),
    Resize(TerminalSize),
    Signal(String),
}

/// What comes down.
pub(crate) enum Down {
    Started,
    Stdout(Bytes),
    Stderr(Bytes),
    Exit(i32),
    /// Something of a later version.
    Other,
}

macro_rules! messages {
    ($request:ident, $response:ident, $input:ident, $output:ident) => {
        impl From<Up> for $request {
            fn from(up: Up) -> Self {
                let input = Some(match up {
                    Up::Stdin(data) => $input::Input::Stdin(data),
                    Up::Resize(size) => $input::Input::Resize(size),
                    Up::Signal(signal) => $input::Input::Signal(signal),
                });
                Self { input, ..Self::default() }
            }
        }

        impl From<$response> for Down {
            fn from(response: $response) -> Self {
                match response.output {
                    Some($output::Output::Started(_)) => Self::Started,
                    Some($output::Output::Stdout(data)) => Self::Stdout(data),
                    Some($output::Output::Stderr(data)) => Self::Stderr(data),
                    Some($output::Output::ExitCode(code)) => Self::Exit(code),
                    None => Self::Other,
                }
            }
        }
    };
}
messages!(ExecRequest, ExecResponse, exec_request, exec_response);
messages!(AttachRequest, AttachResponse, attach_request, attach_response);

/// An open session.
pub(crate) struct Call<Req, Res> {
    up: mpsc::Sender<Req>,
    down: Streaming<Res>,
}

/// How a session is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Whether the program has a terminal.
    pub(crate) tty: bool,
    /// Whether it gets our standard input.
    pub(crate) interactive: bool,
    /// Whether signals that we get are for it.
    pub(crate) sig_proxy: bool,
    /// Whether what it says on standard output, or on its terminal, is shown.
    pub(crate) output: bool,
    /// Whether what it says on standard error is shown.
    pub(crate) errors: bool,
}

impl Manner {
    /// With all of its output.
    pub(crate) fn new(tty: bool, interactive: bool, sig_proxy: bool) -> Self {
        Self { tty, interactive, sig_proxy, output: true, errors: true }
    }

    /// Refuses what docker refuses: a terminal for the program, and none for its input.
    pub(crate) fn check(self) -> Result<()> {
        match self.tty && self.interactive && !terminal::is_input() {
            // With docker's code.
            true => Err(Error::new(Exit::Failed, "the input device is not a TTY").with_code(1)),
            false => Ok(()),
        }
    }

    /// The terminal's size, where it matters.
    pub(crate) fn size(self) -> Option<TerminalSize> {
        terminal::size().filter(|_| self.tty)
    }
}

/// Opens a session and waits until it has begun.
pub(crate) async fn open<Req, Res, F, Fut>(ctx: &Ctx, first: Req, rpc: F) -> Result<Call<Req, Res>>
where
    Req: Clone + Send + 'static,
    Res: Into<Down>,
    F: Fn(Channel, BoxStream<'static, Req>) -> Fut,
    Fut: Future<Output = std::result::Result<Response<Streaming<Res>>, Status>>,
{
    let Open { up, first, down } = ctx.session.open(first, QUEUE, rpc).await?;
    match first.map(Into::into) {
        Some(Down::Started) => Ok(Call { up, down }),
        _ => Err(Error::new(Exit::Failed, "the agent did not say that it has begun")),
    }
}

/// Holds a session to its end; the program's exit code, or None where it was left running. `late` sends
/// a signal when the input has ended, with which the way up has, and tells whether it did.
pub(crate) async fn hold<Req, Res>(
    term: Term,
    call: Call<Req, Res>,
    manner: Manner,
    late: impl AsyncFn(String) -> bool,
) -> Result<Option<i32>>
where
    Req: From<Up>,
    Res: Into<Down>,
{
    let Manner { tty, interactive, sig_proxy, output, errors } = manner;
    let mut signals = Signals::listen()?;
    let _raw = match tty && interactive {
        true => Raw::enter()?,
        false => None,
    };
    // The program's bytes as they are: it may be an editor.
    let mut printer = Printer::start(term, true)?;
    let Call { up, mut down } = call;
    // Taken out when the input ends, which is what its end is upstream.
    let up = RefCell::new(Some(up));
    let forced = Cell::new(false);
    let result = {
        let printing = async {
            while let Some(message) = down.message().await? {
                match message.into() {
                    Down::Stdout(_) if !output => {}
                    Down::Stderr(_) if !errors => {}
                    Down::Stdout(data) => printer.send(To::Out, data).await?,
                    Down::Stderr(data) => printer.send(To::Err, data).await?,
                    Down::Exit(code) => return Ok(Some(code)),
                    Down::Started | Down::Other => {}
                }
            }
            Ok(None)
        };
        let signalled = async {
            let number = signals.obey(sig_proxy && !tty, &up, late).await;
            forced.set(true);
            Err(Error::Program(128 + number))
        };
        tokio::select! {
            result = printing => result,
            result = feed(interactive, &up) => result,
            result = resized(tty, &up) => result,
            result = signalled => result,
        }
    };
    match forced.get() {
        // Its printer may be stuck with a reader that reads no more.
        true => result,
        false => printer.finish(result),
    }
}

type Upstream<Req> = RefCell<Option<mpsc::Sender<Req>>>;

/// Sends a message where the input has not ended; not waiting while it holds on to the queue's end.
async fn send<Req: From<Up>>(up: &Upstream<Req>, message: Up) -> bool {
    let sender = up.borrow().clone();
    match sender {
        Some(sender) => sender.send(message.into()).await.is_ok(),
        None => false,
    }
}

/// Sends standard input.
async fn feed<Req: From<Up>>(interactive: bool, up: &Upstream<Req>) -> Result<Option<i32>> {
    if interactive {
        let mut input = Input::start()?;
        while let Some(data) = input.next().await {
            if !send(up, Up::Stdin(data)).await {
                return pending().await; // The call has ended, and says how.
            }
        }
        up.take();
    }
    pending().await
}

/// Sends each new size of the terminal.
async fn resized<Req: From<Up>>(tty: bool, up: &Upstream<Req>) -> Result<Option<i32>> {
    if !tty {
        return pending().await;
    }
    let mut changed = signal(SignalKind::window_change())?;
    // It may have changed before there was anyone to see it.
    let mut told = None;
    loop {
        if let Some(size) = terminal::size().filter(|size| told != Some(*size)) {
            told = Some(size);
            send(up, Up::Resize(size)).await;
        }
        if changed.recv().await.is_none() {
            return pending().await;
        }
    }
}

/// Signals that would end us.
struct Signals {
    hup: Signal,
    int: Signal,
    quit: Signal,
    term: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            term: signal(SignalKind::terminate())?,
        })
    }

    /// The next one's number.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.hup.recv() => 1,
            _ = self.int.recv() => 2,
            _ = self.quit.recv() => 3,
            _ = self.term.recv() => 15,
        }
    }

    /// Passes signals on where they are the program's; returns with one that is to end us: it is ours, it
    /// cannot be passed on, or it comes while the one before is stuck behind input that nobody takes.
    async fn obey<Req: From<Up>>(
        &mut self,
        proxy: bool,
        up: &Upstream<Req>,
        late: impl AsyncFn(String) -> bool,
    ) -> u8 {
        let mut now = self.next().await;
        if !proxy {
            return now;
        }
        loop {
            let signal = now.to_string();
            let pass = async {
                let open = up.borrow().is_some();
                if open { send(up, Up::Signal(signal)).await } else { late(signal).await }
            };
            let passed = tokio::select! {
                passed = pass => passed,
                again = self.next() => return again,
            };
            if !passed {
                return now;
            }
            now = self.next().await;
        }
    }
}

/// Says of a session that broke off what became of the program.
pub(crate) fn broken(error: Error, then: &str) -> Error {
    let Some(failure) = error.told().filter(|f| f.exit == Exit::Unreachable) else { return error };
    Error::new(Exit::Unreachable, format!("the session broke off: {}", failure.message)).hint(then)
}
