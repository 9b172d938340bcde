#!/bin/sh
# Replace the vendored Swagger UI: `./update.sh 5.35.0`. Needs npm, which checks the package's integrity.
set -eu
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
package="swagger-ui-dist@$1"
archive=$(npm pack --silent --pack-destination "$folder" "$package")
wanted=$(npm view "$package" dist.integrity)
found="sha512-$(openssl dgst -sha512 -binary "$folder/$archive" | openssl base64 -A)"
[ "$found" = "$wanted" ] || { echo "$package has the integrity $found, not $wanted" >&2; exit 1; }
files="swagger-ui-bundle.js swagger-ui.css swagger-ui-bundle.js.LICENSE.txt LICENSE NOTICE"
for file in $files; do
    tar -xzOf "$folder/$archive" "package/$file" > "$file"
done
echo "$package $wanted" > VERSION
# shellcheck disable=SC2086
sha256sum $files > SHA256SUMS
