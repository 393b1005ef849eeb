# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ipam_global_optspecs
    string join \n h/help V/version
end

function __fish_ipam_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ipam_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ipam_using_subcommand
    set -l cmd (__fish_ipam_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ipam -n "__fish_ipam_needs_command" -s h -l help -d 'Print help'
complete -c ipam -n "__fish_ipam_needs_command" -s V -l version -d 'Print version'
complete -c ipam -n "__fish_ipam_needs_command" -f -a "serve" -d 'Serve the API'
complete -c ipam -n "__fish_ipam_needs_command" -f -a "check" -d 'Verify the invariants on a store that no one serves; exit code 1 when one is broken'
complete -c ipam -n "__fish_ipam_needs_command" -f -a "initiate" -d 'Make a replica set of one member of a MongoDB server; does nothing when it is one already'
complete -c ipam -n "__fish_ipam_needs_command" -f -a "health" -d 'Ask a running server how it is; exit code 1 when it does not answer or is not ready'
complete -c ipam -n "__fish_ipam_needs_command" -f -a "bench" -d 'Load a running server, measure it, and look at every address it gives'
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l listen -d 'Address and port on which HTTP is served; port 0 takes a free one [default: 127.0.0.1:8000]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l data -d 'Directory of the embedded store [default: data]' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l mongo -d 'MongoDB, instead of the embedded store: HOST,HOST:PORT,... or a connection string mongodb://... (a password in a flag is seen by every user of the machine)' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l mongo-database -d 'The MongoDB database [default: ipam]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats -d 'Publish events to NATS: nats://USER:PASSWORD@HOST:PORT,... or tls://... (a password in a flag is seen by every user of the machine)' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-token -d 'The token that NATS lets in (better in the environment or the file)' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-creds -d 'A file with the JWT and the seed that NATS lets in' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-nkey -d 'A file with the seed of the NKey that NATS lets in' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-ca -d 'Certificates in PEM that those of NATS are signed by, instead of the system\'s; requires TLS' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-cert -d 'The certificate in PEM that is shown to NATS' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-key -d 'The key of that certificate in PEM' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-stream -d 'The stream in JetStream that events go to [default: IPAM]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-replicas -d 'How many servers keep the stream, when it is made here [default: 1]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-max-age -d 'How long the stream keeps events, when it is made here [default: 30d]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l nats-api -d 'Answer reservation calls over NATS, too' -r -f -a "true\t''
false\t''"
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l amqp -d 'Publish events to RabbitMQ: amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://... (a password in a flag is seen by every user of the machine)' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l amqp-ca -d 'Certificates in PEM that RabbitMQ\'s may be signed by, besides the system\'s' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul -d 'Look MongoDB up at Consul\'s agent, and register there: http://HOST:PORT or https://HOST:PORT [without a value: CONSUL_HTTP_ADDR, else http://127.0.0.1:8500]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-token -d 'The token of Consul\'s access control (better in the environment or a file)' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-token-file -d 'A file with that token' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-datacenter -d 'The datacenter in which services are looked up, instead of the agent\'s' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-ca -d 'Certificates in PEM that the agent\'s is signed by, instead of the system\'s' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-cert -d 'The certificate in PEM that is shown to the agent' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-key -d 'The key of that certificate in PEM' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-mongo -d 'The service in Consul that MongoDB is looked up as, or mongodb://USER:PASSWORD@SERVICE/?OPTIONS; empty to look nothing up [default: mongodb]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-nats -d 'The service in Consul that NATS is looked up as, or tls://USER:PASSWORD@SERVICE' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-amqp -d 'The service in Consul that RabbitMQ is looked up as, or amqps://USER:PASSWORD@SERVICE/VHOST' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-service -d 'The service in Consul that this instance is registered as [default: ipam]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-service-id -d 'The id of this instance in Consul; made of service, host and port by default' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-address -d 'Where others reach this instance, when that is not where it listens: HOST or HOST:PORT' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-tags -d 'Tags of this instance in Consul: TAG,TAG,...' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-check-interval -d 'How often Consul looks whether this instance can do its work [default: 5s]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l consul-deregister-after -d 'How long an instance may be unable to until Consul removes it [default: 10m]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l commit-timeout -d 'How long a change may wait for the store until its client is told [default: 5s]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l audit-retention -d 'How long events are kept [default: 400d]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l idempotency-kept -d 'How long the answer to a request with an Idempotency-Key is kept [default: 24h]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l publish -d 'Which kinds of events are published on a bus: pool,subnet,reservation,lease [default: pool,subnet,reservation,lease]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l publish-delay-max -d 'How late events may be published while a burst of requests needs the processors [default: 10s]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l log -d 'A log level, or levels by module: `warn,ipam::store=debug` [default: info,actix_server=warn,async_nats=off,lapin=off]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l workers -d 'Threads that serve HTTP, and as many for the actors [default: one for each core]' -r
complete -c ipam -n "__fish_ipam_using_subcommand serve" -l config -d 'A file of such options in TOML; flags and environment go before it' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand serve" -s h -l help -d 'Print help'
complete -c ipam -n "__fish_ipam_using_subcommand check" -l data -d 'Directory of the embedded store [env: IPAM_DATA] [default: data]' -r -F
complete -c ipam -n "__fish_ipam_using_subcommand check" -l mongo -d 'MongoDB: servers as HOST,HOST:PORT,... or a connection string mongodb://... [env: IPAM_MONGO]' -r
complete -c ipam -n "__fish_ipam_using_subcommand check" -l mongo-database -d 'The MongoDB database' -r
complete -c ipam -n "__fish_ipam_using_subcommand check" -s h -l help -d 'Print help'
complete -c ipam -n "__fish_ipam_using_subcommand initiate" -l mongo -d 'The MongoDB server: HOST, HOST:PORT or a connection string mongodb://... (a password in a flag is seen by every user of the machine)' -r
complete -c ipam -n "__fish_ipam_using_subcommand initiate" -l host -d 'The address that it has in its replica set, where clients must reach it [default: the server of --mongo]' -r
complete -c ipam -n "__fish_ipam_using_subcommand initiate" -l wait -d 'How long to wait for a server that is starting, and for it to be the primary' -r
complete -c ipam -n "__fish_ipam_using_subcommand initiate" -s h -l help -d 'Print help'
complete -c ipam -n "__fish_ipam_using_subcommand health" -l live -d 'Ask whether it lives, and not whether it can serve requests'
complete -c ipam -n "__fish_ipam_using_subcommand health" -s h -l help -d 'Print help'
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l clients -d 'Clients at once, each with a connection of its own' -r
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l requests -d 'Requests that are measured' -r
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l mode -d 'What the clients do' -r -f -a "reserve\t'Reserve addresses'
mixed\t'Of ten requests: reserve four, read three, patch one, release two'
read\t'Read reservations'"
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l count -d 'Addresses in one reservation' -r
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l fill -d 'How full the subnet is when the measurement begins, in percent' -r
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l prefix -d 'The size of the subnet [default: 12, for IPv6 108]' -r
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l rounds -d 'Rounds into which the requests are divided' -r
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l threads -d 'Threads of the load generator [default: half of the cores]' -r
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l ipv6 -d 'Use an IPv6 subnet'
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l baseline -d 'Measure the route that stores nothing too, and print the ratio (needs `ipam serve --bench-route`)'
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l keep -d 'Leave the pool there'
complete -c ipam -n "__fish_ipam_using_subcommand bench" -l json -d 'Print the results as JSON'
complete -c ipam -n "__fish_ipam_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
