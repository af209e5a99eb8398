-- Asks the operator by the annotation that `baton` writes too: an id, what is asked for, and the revision that is meant, so
-- that a click on what is no longer so does nothing. `verb` is set by the line before.
local status = obj.status or {}
local revision = ""
local back = status.decision ~= nil and status.decision.kind ~= "Promote"
local condemned = status.condemned ~= nil and #status.condemned > 0
-- A retry means what is being taken back, or was; not what is being released now.
if verb == "retry" and not back and status.pinned ~= nil then
  revision = status.pinned.instead
elseif verb == "retry" and not back and condemned then
  revision = status.condemned[#status.condemned]
elseif status.candidate ~= nil then
  revision = status.candidate.revision
elseif verb == "undo" and status.stable ~= nil then
  revision = status.stable.revision
elseif condemned then
  revision = status.condemned[#status.condemned]
end
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
local id = "argocd-" .. (obj.metadata.resourceVersion or tostring(os.time())) .. "-" .. verb
obj.metadata.annotations["baton.dev/command"] =
  '{"id":"' .. id .. '","verb":"' .. verb .. '","revision":"' .. revision .. '"}'
return obj
