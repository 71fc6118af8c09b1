# What a user of Docker does, each a function; `$runtime` is the one that is
# asked for. Sourced by run.

# expect WHAT WANTED GOT
expect() {
	[ "$2" = "$3" ] || { printf '%s: wanted %q, got %q\n' "$1" "$2" "$3" >&2; return 1; }
}

# matches WHAT PATTERN GOT
matches() {
	grep -Eq -- "$2" <<<"$3" || { printf '%s: wanted %s in %q\n' "$1" "$2" "$3" >&2; return 1; }
}

# within SECONDS COMMAND...: until it succeeds
within() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" 2>/dev/null; do
		((SECONDS < deadline)) || { echo "not in time: $*" >&2; return 1; }
		sleep 0.2
	done
}

run() { docker run --runtime "$runtime" "$@"; }

# start NAME ARGUMENT...: a container in the background with a name of its own
start() {
	local name=$1
	shift
	run -d --name "$name" "$@" >/dev/null
}

state() { docker inspect -f '{{.State.Status}}' "$1"; }
is() { [ "$(state "$1")" = "$2" ]; }

case_run_and_its_exit_code() {
	expect output hi "$(run --rm image echo hi)"
	local code=0
	run --rm image sh -c 'exit 7' || code=$?
	expect code 7 "$code"
	code=0
	run --rm image nonesuch 2>"$dir/error" || code=$?
	expect "code of a missing program" 127 "$code"
	matches "its error" 'nonesuch' "$(cat "$dir/error")"
}

case_input_and_a_terminal() {
	expect input "from stdin" "$(echo from stdin | run -i --rm image cat)"
	local out
	out=$(script -qec "docker run --runtime $runtime -it --rm image sh -c 'tty; stty size'" /dev/null </dev/null | tr -d '\r')
	matches terminal '/dev/(pts/[0-9]+|console)' "$out"
}

case_logs_of_a_detached_container() {
	start "$id" image sh -c 'echo one; echo two >&2; sleep 1000'
	within 10 sh -c "docker logs $id 2>/dev/null | grep -q one"
	expect stdout one "$(docker logs "$id" 2>/dev/null)"
	expect stderr two "$(docker logs "$id" 2>&1 >/dev/null)"
}

case_exec() {
	start "$id" -e A=1 image sleep 1000
	expect environment "1 2" "$(docker exec -e B=2 "$id" sh -c 'echo $A $B')"
	expect user 7 "$(docker exec -u 7 "$id" id -u)"
	expect folder /tmp "$(docker exec -w /tmp "$id" pwd)"
	expect input "from stdin" "$(echo from stdin | docker exec -i "$id" cat)"
	local code=0
	docker exec "$id" sh -c 'exit 3' || code=$?
	expect code 3 "$code"
}

case_cp() {
	start "$id" image sh -c 'echo inside >/tmp/a; sleep 1000'
	within 10 docker exec "$id" test -s /tmp/a
	docker cp "$id:/tmp/a" "$dir/a"
	expect "from the container" inside "$(cat "$dir/a")"
	echo outside >"$dir/b"
	docker cp "$dir/b" "$id:/tmp/b"
	expect "into the container" outside "$(docker exec "$id" cat /tmp/b)"
}

case_stop_and_kill() {
	start "$id" image sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done'
	# A first process that does not handle the signal yet does not get it.
	within 10 sh -c "docker logs $id | grep -q ready"
	docker stop "$id" >/dev/null
	expect "code of stop" 5 "$(docker inspect -f '{{.State.ExitCode}}' "$id")"
	docker start "$id" >/dev/null
	docker kill "$id" >/dev/null
	within 10 is "$id" exited
	expect "code of kill" 137 "$(docker inspect -f '{{.State.ExitCode}}' "$id")"
	docker start "$id" >/dev/null
	is "$id" running
	docker restart -t 5 "$id" >/dev/null
	is "$id" running
}

case_restart_policies() {
	start "$id" --restart on-failure:2 image sh -c 'echo again; exit 1'
	within 60 sh -c "docker inspect -f '{{.State.Status}} {{.RestartCount}}' $id | grep -q 'exited 2'"
	expect output $'again\nagain\nagain' "$(docker logs "$id")"
}

case_out_of_memory() {
	start "$id" --memory 32m image sh -c 'x=a; while :; do x=$x$x; done'
	within 60 is "$id" exited
	expect "code and reason" "137 true" "$(docker inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' "$id")"
}

case_stats_and_top() {
	start "$id" --memory 64m image sh -c 'sleep 1000 & sleep 2000'
	within 10 sh -c "docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' $id | grep -Eq '(KiB|MiB) / 64MiB [2-9]'"
	# The process that stands for the microVM, and none that is not the container's.
	[ "$runtime" = io.sandbox.v1 ] || return 0
	expect top sandbox-vmm "$(docker top "$id" -o pid,comm | awk 'NR > 1 {print $2}')"
}

case_pause() {
	start "$id" image sh -c 'while :; do date +%N >/tmp/now; done'
	docker pause "$id" >/dev/null
	is "$id" paused
	docker unpause "$id" >/dev/null
	is "$id" running
	docker exec "$id" true
}

case_limits_and_update() {
	start "$id" --memory 64m --cpus 0.5 --pids-limit 50 image sleep 1000
	local files='cd /sys/fs/cgroup; cat memory.max cpu.max pids.max'
	expect limits "67108864 50000 100000 50" "$(docker exec "$id" sh -c "$files" | xargs)"
	docker update --memory 96m --memory-swap 96m --cpus 0.25 --pids-limit 60 "$id" >/dev/null
	expect "limits after update" "100663296 25000 100000 60" "$(docker exec "$id" sh -c "$files" | xargs)"
}

case_published_ports() {
	start "$id" -p 127.0.0.1:0:80 image sh -c 'while :; do echo served | nc -l -p 80; done'
	local at
	at=$(docker port "$id" 80 | head -1)
	reads() { [ "$(timeout 2 busybox nc "${at%:*}" "${at##*:}" </dev/null)" = served ]; }
	within 20 reads
}

case_containers_reach_each_other() {
	docker network create "$id" >/dev/null
	start "$id-server" --network "$id" image sh -c 'while :; do echo served | nc -l -p 80; done'
	# The name is one that Docker's own resolver knows.
	within 20 sh -c "docker run --runtime $runtime --rm --network $id image sh -c 'nc $id-server 80 </dev/null' | grep -q served"
}

case_compose() {
	mkdir -p "$dir/compose"
	cat >"$dir/compose/compose.yaml" <<-YAML
		name: $id
		services:
		  server:
		    image: image
		    runtime: $runtime
		    command: sh -c 'while :; do echo served | nc -l -p 80; done'
		    healthcheck: {test: ["CMD", "pidof", "nc"], interval: 1s, retries: 30}
		  client:
		    image: image
		    runtime: $runtime
		    depends_on: {server: {condition: service_healthy}}
		    environment: {WORD: got}
		    volumes: ["data:/data"]
		    command: sh -c 'echo \$\$WORD \$\$(nc server 80 </dev/null) | tee /data/file'
		volumes: {data: {}}
	YAML
	compose() { docker compose -f "$dir/compose/compose.yaml" "$@"; }
	compose up -d --quiet-pull 2>"$dir/error" || { cat "$dir/error" >&2; return 1; }
	within 20 sh -c "docker logs $id-client-1 | grep -q served"
	expect "what the client says" "got served" "$(docker logs "$id-client-1")"
	expect "running services" server "$(compose ps --services --status running)"
	compose down -v --timeout 1 2>/dev/null
	expect "what is left" "" "$(docker ps -aq --filter "label=com.docker.compose.project=$id")"
}

case_volumes() {
	mkdir -p "$dir/bound"
	echo bound >"$dir/bound/file"
	expect "bound folder" bound "$(run --rm -v "$dir/bound:/data" image cat /data/file)"
	run --rm -v "$dir/bound:/data" image sh -c 'echo back >/data/back'
	expect "written by the container" back "$(cat "$dir/bound/back")"
	local code=0
	run --rm -v "$dir/bound:/data:ro" image touch /data/x 2>/dev/null || code=$?
	[ "$code" != 0 ] || { echo "a read-only volume was written to" >&2; return 1; }
	run --rm -v "$id:/data" image sh -c 'echo kept >/data/file'
	expect "named volume" kept "$(run --rm -v "$id:/data" image cat /data/file)"
}

case_security() {
	expect user "7 8" "$(run --rm --user 7:8 image sh -c 'echo $(id -u) $(id -g)')"
	local code=0
	run --rm --read-only image touch /x 2>/dev/null || code=$?
	[ "$code" != 0 ] || { echo "a read-only root was written to" >&2; return 1; }
	run --rm --read-only --tmpfs /tmp image touch /tmp/x
	matches capabilities '^CapEff:[[:space:]]*0+$' "$(run --rm --cap-drop ALL image sh -c 'cat /proc/self/status')"
	code=0
	run --rm --cap-drop CHOWN image chown 1 /tmp 2>/dev/null || code=$?
	[ "$code" != 0 ] || { echo "chown without CAP_CHOWN went through" >&2; return 1; }
}

case_hostname_and_names() {
	expect hostname box "$(run --rm --hostname box image hostname)"
	matches hosts '192.0.2.7[[:space:]]+other' "$(run --rm --add-host other:192.0.2.7 image cat /etc/hosts)"
	matches resolver 'nameserver' "$(run --rm --dns 192.0.2.9 image cat /etc/resolv.conf)"
}

case_init() {
	expect "first process" docker-init "$(run --rm --init image cat /proc/1/comm)"
}

case_another_daemon() {
	start "$id" image sleep 1000
	stop_docker
	start_docker
	within 10 is "$id" running || return 1
	docker exec "$id" true || return 1
	docker kill "$id" >/dev/null || return 1
	within 10 is "$id" exited
}
