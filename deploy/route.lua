-- Orthanc sends each CT series, once it is stable, to the node: the modality "iscl" of orthanc.json.
--
-- Late slices make a series stable again, and it is sent again; the node recognises what it has.
-- A job that fails (the node is down) is not repeated by Orthanc: the node's own sweep finds what it has missed.

local NODE = 'iscl'
local NODE_AET = 'ISCL'

function OnStableSeries(seriesId, tags, metadata)
  if tags['Modality'] ~= 'CT' then
    return
  end
  local instances = ParseJson(RestApiGet('/series/' .. seriesId .. '/instances'))
  local first = instances[1]['ID']

  -- No loops: neither what came from the node, nor anything else that was computed from other images.
  local remote = ParseJson(RestApiGet('/instances/' .. first .. '/metadata?expand'))['RemoteAET']
  local image = ParseJson(RestApiGet('/instances/' .. first .. '/simplified-tags'))
  if remote == NODE_AET or string.find(image['ImageType'] or '', '^DERIVED') then
    return
  end

  -- Written by hand: DumpJson makes text of numbers and booleans, which this route refuses.
  local body = '{"Resources":["' .. seriesId .. '"],"Synchronous":false,"StorageCommitment":true}'
  if not RestApiPost('/modalities/' .. NODE .. '/store', body) then
    print('route.lua: series ' .. seriesId .. ' could not be given to ' .. NODE)
  end
end
