//! `skep-load`: parses, runs, prints. Ends with 1 where no request succeeded, or a reader missed one.

use std::process::ExitCode;

use clap::Parser;
use skep_load::args::{Args, Verb};
use skep_load::{live, run, table};

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("skep-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Run(options) => {
            let json = options.json;
            let report = run::run_blocking(options)?;
            if json {
                eprintln!("{report}");
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!("{report}");
            }
            Ok(if report.requests == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Verb::Live(options) => {
            let json = options.json;
            let report = live::run_blocking(options)?;
            if json {
                eprintln!("{report}");
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!("{report}");
            }
            Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Table { file } => {
            print!("{}", table::table_of_file(&file)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
