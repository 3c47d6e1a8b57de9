using PvDiffFuzz.Cli;

// Results go to stdout and logs to stderr; the exit codes are those of ExitCode.
return CommandLine.Run(args, new Composition());
