{{/* The pod of a job that runs a script with dkvctl: dict "root" $ "script" "..." */}}
{{- define "dkv.jobPod" -}}
metadata:
  labels:
    {{- include "dkv.labels" .root | nindent 4 }}
    app.kubernetes.io/component: job
spec:
  restartPolicy: OnFailure
  automountServiceAccountToken: false
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- include "dkv.podSecurity" .root | nindent 4 }}
  containers:
    - name: dkvctl
      image: {{ include "dkv.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [/bin/sh, -c]
      args:
        - |
          {{- .script | nindent 10 }}
      env:
        - {name: DKVCTL_ADDR, value: {{ include "dkv.masters" .root | quote }}}
        {{- include "dkv.clientEnv" .root | nindent 8 }}
      securityContext: {{- include "dkv.containerSecurity" .root | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "dkv.secretMounts" .root | nindent 8 }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- include "dkv.secretVolumes" .root | nindent 4 }}
{{- end }}
