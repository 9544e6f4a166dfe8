{{- define "dkv.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "dkv.labels" -}}
app.kubernetes.io/name: dkv
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dkv.metaLabels" -}}
{{ include "dkv.labels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}

{{- define "dkv.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{/* The host of a pod: dict "root" $ "group" "masters" "ordinal" 0 */}}
{{- define "dkv.host" -}}
{{- $group := printf "%s-%s" (include "dkv.name" .root) .group -}}
{{ $group }}-{{ .ordinal }}.{{ $group }}
{{- end }}

{{/* The addresses of the first pods of a group: dict "root" $ "group" "masters" "count" 3 "prefix" "http://" "port" 8082 */}}
{{- define "dkv.addresses" -}}
{{- $addresses := list -}}
{{- range $i := until (int .count) -}}
{{- $host := include "dkv.host" (dict "root" $.root "group" $.group "ordinal" $i) -}}
{{- $addresses = append $addresses (printf "%s%s:%v" $.prefix $host $.port) -}}
{{- end -}}
{{ join "," $addresses }}
{{- end }}

{{/* The gRPC addresses of the masters that were there from the beginning. */}}
{{- define "dkv.masters" -}}
{{ include "dkv.addresses" (dict "root" . "group" "masters" "count" .Values.masters.founders "prefix" "" "port" 8080) }}
{{- end }}

{{/* Whether calls of other pods than members may be administrative. */}}
{{- define "dkv.administers" -}}
{{- if or .Values.auth.secretName (eq (toString .Values.allowInsecure) "true") -}}yes{{- end -}}
{{- end }}

{{/* What dkvctl needs to call a node. */}}
{{- define "dkv.clientEnv" -}}
{{- if .Values.tls.secretName }}
- {name: DKVCTL_TLS_CA_FILE, value: /etc/dkv/tls/ca.crt}
{{- end }}
{{- if .Values.auth.secretName }}
- {name: DKVCTL_TOKEN_FILE, value: /etc/dkv/auth/token}
{{- end }}
{{- end }}

{{- define "dkv.secretMounts" -}}
{{- if .Values.tls.secretName }}
- {name: tls, mountPath: /etc/dkv/tls, readOnly: true}
{{- end }}
{{- if .Values.auth.secretName }}
- {name: auth, mountPath: /etc/dkv/auth, readOnly: true}
{{- end }}
{{- end }}

{{- define "dkv.secretVolumes" -}}
{{- if .Values.tls.secretName }}
- name: tls
  secret: {secretName: {{ .Values.tls.secretName }}, defaultMode: 0440}
{{- end }}
{{- if .Values.auth.secretName }}
- name: auth
  secret: {secretName: {{ .Values.auth.secretName }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "dkv.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "dkv.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What a pod runs: it finds its name, and then becomes dkvsrv. */}}
{{- define "dkv.start" -}}
set -eu
host=$HOSTNAME.{{ include "dkv.name" .root }}-{{ .group }}
{{- if eq .group "masters" }}
if [ "${HOSTNAME##*-}" -lt {{ .root.Values.masters.founders }} ]; then
  set -- --nexus-cluster-url {{ include "dkv.addresses" (dict "root" .root "group" "masters" "count" .root.Values.masters.founders "prefix" "http://" "port" 8082) }}
else
  set -- --nexus-join
fi
set -- --role master --nexus-node-url "http://$host:8082" "$@"
{{- else if eq .group "registry" }}
set -- --role discovery --nexus-node-url "http://$host:8082" \
  --nexus-cluster-url {{ include "dkv.addresses" (dict "root" .root "group" "registry" "count" .root.Values.registry.replicas "prefix" "http://" "port" 8082) }}
{{- else }}
set -- --role slave --repl-mode stream
{{- end }}
{{- if ne .group "registry" }}
set -- "$@" --discovery-service.client.discovery-service-addr {{ include "dkv.addresses" (dict "root" .root "group" "registry" "count" .root.Values.registry.replicas "prefix" "" "port" 8080) }}
{{- end }}
{{- if .root.Values.tls.secretName }}
set -- "$@" --tls-ca-file /etc/dkv/tls/ca.crt --tls-cert-file /etc/dkv/tls/tls.crt --tls-key-file /etc/dkv/tls/tls.key
{{- end }}
{{- if .root.Values.auth.secretName }}
set -- "$@" --auth-file /etc/dkv/auth/auth.yaml
{{- end }}
# The node listens at its own name, which exists once the pod is known. After a restart it
# may still be that of the former address for a while.
until case $(getent hosts "$host") in "$POD_IP "*) ;; *) false ;; esac; do
  sleep 1
done
exec dkvsrv --config /etc/dkv/node/dkvsrv.yaml --node-name "$HOSTNAME" --db-folder /var/lib/dkv/data \
  --listen-addr 0.0.0.0:8080 --http-listen-addr 0.0.0.0:8081 --advertise-addr "$host:8080" "$@"
{{- end }}
