# The examples of these pages start with `. docs/session.sh` in the clone. It logs in to the local fleet as its
# administrator and sets URL, TOKEN and the headers AUTH and JSON. The token is good for 10 minutes: after that, run
# `. "$CLONE/docs/session.sh"` again.
CLONE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export AIDEVOS_HOME=${AIDEVOS_HOME:-$CLONE/var} PATH=$CLONE/.venv/bin:$PATH

# Print one field of the JSON object on standard input.
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# Print an access token of the user $1 with the password $2.
login() { curl -s "$URL/auth/login" -H "$JSON" -d "{\"username\": \"$1\", \"password\": \"$2\"}" | field access_token; }

URL=$(field gateway_url < "$AIDEVOS_HOME/fleet.json")
JSON="Content-Type: application/json"
TOKEN=$(login "$(field admin_username < "$AIDEVOS_HOME/fleet.json")" "$(field admin_password < "$AIDEVOS_HOME/fleet.json")")
AUTH="Authorization: Bearer $TOKEN"
